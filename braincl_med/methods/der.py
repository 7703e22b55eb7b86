"""DER: a new backbone for every task, beside the frozen former ones (dynamically expandable representation).

Yan et al. 2021. The new backbone starts from the weights of the one before it, as in the authors' code. While it is
trained on the task's raw scans and the exemplars of earlier tasks, an auxiliary classifier on its features alone
tells the new classes from "old" as one more class. Then the classifier is begun anew and trained on as many scans of
every class, the backbones as they are (`rebalance`); after the first task there is nothing to balance.

Deviations:

- Without the masks that prune channels: the variant that the paper itself reports as "DER w/o P".
- Trained within the budget of `sleep`; no warm-up after which both classifiers begin anew.
- Old rows of the classifier are inherited when a task begins, as the paper says; its published settings begin anew.
- The classifier is trained on features of unaugmented scans at one constant rate, without a temperature. A rate r at
  temperature T is a rate r / T² without one, but for the scale of the logits: the authors' 0.1 at 5 is 0.004.
- Every hospital balances its own scans: as many of each class as it has exemplars of the earlier class with the most,
  and at least 20; scans of smaller classes are repeated. The authors, with 20 exemplars a class or
  more, cut all classes down to the smallest, which may be one scan here; with the 3 that a small budget buys, a
  classifier that throws the other new scans away is 4 points worse.
- Federated averaging of the new backbone and of the classifiers, of the latter once after `rebalance`.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from braincl_med.cortex.cortex import Cortex, Weights, new_rows
from braincl_med.foundation.arrays import Labels, Positions
from braincl_med.foundation.seeding import seed_for
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.base import Method, grow
from braincl_med.methods.exemplars import remember, with_exemplars
from braincl_med.methods.expanded import ExpandedCortex, trainable
from braincl_med.methods.phase import CLASSIFIER, Phase, Schedule, Site
from braincl_med.methods.schedules import TRAINED, train_then
from braincl_med.methods.training import TRAIN, learned
from braincl_med.phases.sleep import Objective
from braincl_med.phases.wake import wake
from braincl_med.settings.config import ExperimentConfig, WakeConfig

AUXILIARY_WEIGHT = 1.0
"""Of the loss of the classifier that tells the task's classes from "old", as the authors have it."""
REBALANCE_EPOCHS = 30
REBALANCE_LEARNING_RATE = 0.004
REBALANCE_PER_CLASS = 20
"""Of the classifier's second training; where they come from stands above."""


def balanced(labels: Labels, first_new: int, least: int, seed: int) -> Positions:
    """Positions of as many samples of every class.

    Args:
        labels: (n,) class numbers; at least one sample.
        first_new: the number of the first class of the current task.
        least: so many of each class, if any class has as many.
        seed: of which samples are taken.

    Returns:
        Positions by class, each class as often as the most frequent class below `first_new`, or `least` if that is
        more; a class with fewer samples repeats them.
    """
    classes, counts = np.unique(labels, return_counts=True)
    each = max(counts[classes < first_new].max(initial=0), min(least, counts.max()))
    random = np.random.default_rng(seed)
    return np.concatenate([np.resize(random.permutation(np.flatnonzero(labels == c)), each) for c in classes])


def backbone_bytes(weights: Weights) -> dict[str, int]:
    """Bytes of every backbone but the first."""
    added = [tensor for name, tensor in weights.items() if name.startswith("added.")]
    return {"backbones": sum(tensor.numel() * tensor.element_size() for tensor in added)}


def _objective(site: Site, order: Order, cortex: Cortex) -> Objective | None:
    """Cross-entropy of the classifier, plus that of the auxiliary classifier from the second task on."""
    first_new = order.registry.numbers(order.task).start

    def loss(cortex: Cortex, scans: Tensor, labels: Tensor) -> Tensor:
        assert isinstance(cortex, ExpandedCortex)
        features = cortex.features(scans)
        old_or_new = (labels - first_new + 1).clamp(min=0)
        auxiliary = functional.cross_entropy(cortex.auxiliary(features[:, -cortex.width :]), old_or_new)
        return functional.cross_entropy(cortex.classifier(features), labels) + AUXILIARY_WEIGHT * auxiliary

    return loss if first_new else None


def _rebalance(site: Site, order: Order) -> Report:
    """Train the classifier anew on a class-balanced set; returns the classifier alone."""
    config, first_new = site.config, order.registry.numbers(order.task).start
    samples = with_exemplars(site, order.registry, order.task)
    if not len(samples):
        return Report(site.name)
    cortex, loss = ExpandedCortex.of(order.weights, config.cortex), None
    if first_new:
        samples = samples.take(balanced(samples.labels, first_new, REBALANCE_PER_CLASS, site.seed(order)))
        # All hospitals begin from the same rows, which their average would blur otherwise.
        torch.manual_seed(seed_for(config.seed, "rebalance", order.task))
        new_rows(cortex.classifier, 0)
        settings = WakeConfig(
            epochs=REBALANCE_EPOCHS,
            batch_size=config.sleep.batch_size,
            learning_rate=REBALANCE_LEARNING_RATE,
            momentum=config.sleep.momentum,
            weight_decay=config.sleep.weight_decay,
        )
        rows = range(cortex.classifier.out_features)
        loss = wake(cortex, samples, settings, rows, settings.epochs, site.seed(order))
    return learned(site, order, cortex, CLASSIFIER, samples, loss)


REBALANCE = Phase("rebalance", _rebalance, CLASSIFIER)
REMEMBER = Phase("remember", partial(remember, network=ExpandedCortex.of))


def _schedule(config: ExperimentConfig) -> Schedule:
    """Train, rebalance the classifier, remember, evaluate."""
    return train_then(config, TRAIN, REBALANCE, REMEMBER)


DER = Method(
    "der",
    (*TRAINED, REBALANCE, REMEMBER),
    _schedule,
    with_exemplars,
    objective=_objective,
    grow=partial(grow, kind=ExpandedCortex),
    network=ExpandedCortex.of,
    trainable=trainable,
    extra_bytes=backbone_bytes,
)
