"""iCaRL: exemplars, distillation and the nearest mean of exemplars (Rebuffi et al. 2017).

Distillation is the paper's own, with sigmoids: every class is a yes-or-no question with binary cross-entropy. Of old
classes the answer to learn is the sigmoid output of the network at the beginning of the task, on the same augmented
scan; of new classes it is one-hot. The loss is summed over classes and averaged over a batch.

Deviations from the paper:

- Trained within the budget of `sleep` (the paper: 70 epochs at a rate of 2.0, its code averaging over classes too).
- Federated averaging of the network; the means of exemplars are pooled over hospitals from sums of features, so that
  every hospital classifies by the same means and no exemplar leaves its hospital.
- A class keeps the exemplars it was given; the total grows with the classes.
- Confidence scores need logits: these are the cosines times 30. Cosines themselves lie so close
  together that their softmax would be nearly flat. The scale changes no prediction.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from braincl_med.cortex.cortex import Cortex, extract_features
from braincl_med.foundation.arrays import Images
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.base import Answers, Method, grow
from braincl_med.methods.exemplars import exemplars, remember, with_exemplars
from braincl_med.methods.phase import Answer, Phase, Schedule, Site, named
from braincl_med.methods.schedules import TRAINED, train_then
from braincl_med.methods.training import TRAIN
from braincl_med.phases.sleep import Objective
from braincl_med.settings.config import CortexConfig, ExperimentConfig
from braincl_med.streams.tasks import Scans

TEACHER = "teacher"
SIMILARITY_SCALE = 30.0
"""Of logits to cosines; it changes no prediction, only the spread of confidence scores."""


class PrototypeCortex(Cortex):
    """A cortex that also holds a mean feature of each class: `prototypes` (classes, width), zero until it is known.

    Only the directions of prototypes mean anything.
    """

    prototypes: Tensor

    def __init__(self, classes: int, config: CortexConfig) -> None:
        super().__init__(classes, config)
        self.register_buffer("prototypes", torch.zeros(classes, self.width))

    def widen(self, classes: int) -> None:
        """Widen the classifier, and the prototypes by rows of zeros; the old ones stay."""
        super().widen(classes)
        self.prototypes = functional.pad(self.prototypes, (0, 0, 0, classes - len(self.prototypes)))


def sigmoid_distillation(logits: Tensor, labels: Tensor, taught: Tensor) -> Tensor:
    """Binary cross-entropy summed over classes, averaged over the batch.

    Args:
        logits: (B, classes) of the network in training.
        labels: (B,) class numbers.
        taught: (B, old classes) logits of the teacher; their sigmoids replace the one-hot targets of old classes.
    """
    targets = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    targets[:, : taught.shape[1]] = taught.sigmoid()
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(labels)


def unit_features(cortex: Cortex, images: Images) -> Tensor:
    """(n, width) features of scans (n, h, w, 3), each of length 1."""
    return functional.normalize(extract_features(cortex, images))


def _objective(site: Site, order: Order, cortex: Cortex) -> Objective:
    old = order.registry.numbers(order.task).start
    teacher = _teacher(site, order) if old else None

    def loss(cortex: Cortex, scans: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            taught = teacher(scans)[:, :old] if teacher is not None else scans.new_zeros(len(scans), 0)
        return sigmoid_distillation(cortex(scans), labels, taught)

    return loss


def _teacher(site: Site, order: Order) -> Cortex:
    """The network as it was before the task's training.

    Later rounds get weights that are trained already, so the first ones are kept until `remember`. A hospital that
    missed the first round learns from the first weights it got.
    """
    kept = site.kept.load(TEACHER, order.task) if order.round else None
    if kept is None:
        kept = {name: tensor.numpy() for name, tensor in order.weights.items()}
        site.kept.save(TEACHER, order.task, kept)
    weights = {name: torch.from_numpy(array) for name, array in kept.items()}
    return PrototypeCortex.of(weights, site.config.cortex).eval()


def _remember(site: Site, order: Order) -> Report:
    """Keep exemplars; the teacher has done its work, also one left by a task whose `remember` was missed."""
    for task in range(order.task + 1):
        site.kept.forget(TEACHER, task)
    return remember(site, order, PrototypeCortex.of)


def _prototypes(site: Site, order: Order) -> Report:
    """The sum of the unit features of each class's exemplars, divided by the number of all exemplars here.

    The server weighs answers by examples, so its average is, class by class, a multiple of the mean over the
    exemplars of all hospitals.
    """
    known = Scans.join(exemplars(site, task) for task in range(order.task + 1))
    if not len(known):
        return Report(site.name)
    cortex = PrototypeCortex.of(order.weights, site.config.cortex)
    sums = torch.zeros(cortex.prototypes.shape, dtype=torch.float64)
    sums.index_add_(0, torch.from_numpy(known.labels), unit_features(cortex, known.images).double())
    means = (sums / len(known)).to(cortex.prototypes.dtype)
    return Report(site.name, len(known), weights={"prototypes": means})


def _answer(cortex: Cortex, images: Images, config: ExperimentConfig) -> Answers:
    """Cosines of features and prototypes, times `SIMILARITY_SCALE`: the largest belongs to the nearest mean."""
    assert isinstance(cortex, PrototypeCortex)
    cosines = unit_features(cortex, images) @ functional.normalize(cortex.prototypes).cpu().T
    return Answers((SIMILARITY_SCALE * cosines).numpy().astype(np.float32))


REMEMBER = Phase("remember", _remember)
PROTOTYPES = Phase("prototypes", _prototypes, Answer(named("prototypes")))


def _schedule(config: ExperimentConfig) -> Schedule:
    """Train, remember, take the prototypes of all classes anew, evaluate."""
    return train_then(config, TRAIN, REMEMBER, PROTOTYPES)


ICARL = Method(
    "icarl",
    (*TRAINED, REMEMBER, PROTOTYPES),
    _schedule,
    with_exemplars,
    objective=_objective,
    grow=partial(grow, kind=PrototypeCortex),
    network=PrototypeCortex.of,
    answer=_answer,
)
