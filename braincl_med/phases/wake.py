"""Wake: the classifier learns new classes from recalled scans while the backbone stays as it is (eq. 4)."""

import torch
from torch import nn
from torch.nn import functional

from braincl_med.cortex.cortex import Cortex, extract_features
from braincl_med.settings.config import WakeConfig
from braincl_med.streams.tasks import Scans


def wake(cortex: Cortex, recalled: Scans, config: WakeConfig, rows: range, epochs: int, seed: int) -> float:
    """Train the classifier alone with cross-entropy; backbone and normalisation statistics do not change.

    Because the backbone is frozen, features are extracted once and only the linear classifier is trained on them.

    Args:
        cortex: changed in place, already widened to all classes in `recalled`.
        recalled: scans of the new task, completed from cues; at least one.
        config: learning rate, momentum, weight decay, batch size.
        rows: of the classifier, which alone change and compete in the softmax; every label is one of them.
        epochs: of this round.
        seed: of the order of the samples.

    Returns:
        The mean cross-entropy of the last epoch.
    """
    features = extract_features(cortex, recalled.images).to(cortex.device)
    labels = torch.from_numpy(recalled.labels - rows.start).to(cortex.device)
    place = slice(rows.start, rows.stop)
    classifier = nn.Linear(features.shape[1], len(rows), device=cortex.device)
    classifier.load_state_dict({"weight": cortex.classifier.weight[place], "bias": cortex.classifier.bias[place]})
    optimiser = torch.optim.SGD(
        classifier.parameters(), config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    order = torch.Generator().manual_seed(seed)
    loss_sum = 0.0
    for _ in range(epochs):
        loss_sum = 0.0
        for chosen in torch.split(torch.randperm(len(labels), generator=order), config.batch_size):
            loss = functional.cross_entropy(classifier(features[chosen]), labels[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            loss_sum += loss.item() * len(chosen)
    with torch.no_grad():
        cortex.classifier.weight[place] = classifier.weight
        cortex.classifier.bias[place] = classifier.bias
    return loss_sum / len(labels)


@torch.no_grad()
def rows_from_class_means(cortex: Cortex, recalled: Scans, new_classes: range) -> None:
    """Start each new classifier row at its class's mean feature, scaled to the mean norm of the old rows.

    An alternative to Kaiming uniform rows (`wake-new-rows: class-mean`), after imprinted weights (Qi et al. 2018).
    Classes without a recalled scan keep their rows.
    """
    features = functional.normalize(extract_features(cortex, recalled.images)).to(cortex.device)
    old = cortex.classifier.weight[: new_classes.start]
    norm = old.norm(dim=1).mean() if len(old) else torch.tensor(1.0)
    for number in new_classes:
        mine = features[torch.from_numpy(recalled.labels == number)]
        if len(mine):
            cortex.classifier.weight[number] = functional.normalize(mine.mean(0), dim=0) * norm
            cortex.classifier.bias[number] = 0
