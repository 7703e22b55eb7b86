"""Wake: the classifier learns new classes from recalled scans while the backbone stays as it is (eq. 4)."""

import torch
from torch import nn
from torch.nn import functional

from braincl_med.cortex.cortex import Cortex, extract_features
from braincl_med.settings.config import WakeConfig
from braincl_med.streams.tasks import Scans


def wake(
    cortex: Cortex, samples: Scans, config: WakeConfig, rows: range, epochs: int, seed: int, rivals: int = 0
) -> float:
    """Train some rows of the classifier with cross-entropy; backbone and normalisation statistics do not change.

    Because the backbone is frozen, features are extracted once and only the linear classifier is trained on them.

    Args:
        cortex: changed in place, already widened to all classes in `samples`.
        samples: of the new task, completed from cues; with `rivals` also of their classes. At least one.
        config: learning rate, momentum, weight decay, batch size.
        rows: of the classifier, which alone change.
        epochs: of this round.
        seed: of the order of the samples.
        rivals: this many rows before `rows` compete with them in the softmax and stay as they are. Every label is one
            of them or of `rows`.

    Returns:
        The mean cross-entropy of the last epoch.
    """
    features = extract_features(cortex, samples.images).to(cortex.device)
    first = rows.start - rivals
    labels = torch.from_numpy(samples.labels - first).to(cortex.device)
    place = slice(rows.start, rows.stop)
    classifier = nn.Linear(features.shape[1], len(rows), device=cortex.device)
    classifier.load_state_dict({"weight": cortex.classifier.weight[place], "bias": cortex.classifier.bias[place]})
    with torch.no_grad():
        fixed = cortex.classifier(features)[:, first : rows.start]
    optimiser = torch.optim.SGD(
        classifier.parameters(), config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    order = torch.Generator().manual_seed(seed)
    loss_sum = 0.0
    for _ in range(epochs):
        loss_sum = 0.0
        for chosen in torch.split(torch.randperm(len(labels), generator=order), config.batch_size):
            logits = torch.cat([fixed[chosen], classifier(features[chosen])], 1)
            loss = functional.cross_entropy(logits, labels[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            loss_sum += loss.item() * len(chosen)
    with torch.no_grad():
        cortex.classifier.weight[place] = classifier.weight
        cortex.classifier.bias[place] = classifier.bias
    return loss_sum / len(labels)
