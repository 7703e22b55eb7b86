"""What a method of continual learning is to the federation: a schedule of phases for every task, and a network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from braincl_med.cortex.cortex import Cortex, Weights, classify, extract_features
from braincl_med.foundation.arrays import Images
from braincl_med.messages.order import Order
from braincl_med.methods.phase import Phase, Schedule, Site
from braincl_med.phases.sleep import Objective
from braincl_med.settings.config import CortexConfig, ExperimentConfig
from braincl_med.settings.methods import FACTS, MethodFacts
from braincl_med.streams.tasks import Registry, Scans


@dataclass(frozen=True)
class Answers:
    """What a network says of some scans.

    Attributes:
        logits: (n, classes).
        scores: further confidence scores (n,) by kind, each a key of `evaluation.rejection.EDGES`.
        features: (n, d), where the method's answers follow from features of one network.
    """

    logits: npt.NDArray[np.float32]
    scores: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    features: npt.NDArray[np.float32] | None = None


def grow(weights: Weights, config: CortexConfig, classes: int, kind: type[Cortex] = Cortex) -> Weights:
    """The shared network, a `kind` of cortex, widened to `classes`; a new one when there are no weights yet."""
    cortex = kind.of(weights, config) if weights else kind(classes, config)
    cortex.widen(classes)
    return cortex.weights()


def answer(cortex: Cortex, images: Images, config: ExperimentConfig) -> Answers:
    """The classifier's logits of scans (n, height, width, 3)."""
    features = extract_features(cortex, images)
    return Answers(classify(cortex, features), features=features.numpy())


def all_of(weights: Weights) -> Weights:
    """Every tensor but those of fixed maps (`cortex.reduction`, `cortex.projection`)."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(("reduction.", "projection."))}


def no_extra_bytes(weights: Weights) -> dict[str, int]:
    """One cortex and nothing beside it."""
    return {}


def no_objective(site: Site, order: Order, cortex: Cortex) -> Objective | None:
    """Plain cross-entropy."""
    return None


def raw_scans(site: Site, registry: Registry, task: int) -> Scans:
    """The raw scans of the current task alone."""
    return site.raw(registry, task)


@dataclass(frozen=True)
class Method:
    """One method. What settings and tables must know of it are its `facts`.

    Attributes:
        name: as in `method: …`, a key of `settings.methods.FACTS`.
        phases: all that its schedule may hold.
        schedule: the steps of one task under a configuration.
        samples: what the whole network is trained on at task `task`.
        recalls: whether those samples are recalls (and may be dithered in training) or raw scans.
        objective: the loss of `train` where it is not cross-entropy; called once a round.
        grow: the shared network at the beginning of a task, from its weights and the number of classes.
        network: the shared network of some weights.
        trainable: of its tensors those that training may change.
        answer: what the network says of scans.
        extra_bytes: of the shared network, beyond one cortex, by item.
    """

    name: str
    phases: tuple[Phase, ...]
    schedule: Callable[[ExperimentConfig], Schedule]
    samples: Callable[[Site, Registry, int], Scans]
    recalls: bool = False
    objective: Callable[[Site, Order, Cortex], Objective | None] = no_objective
    grow: Callable[[Weights, CortexConfig, int], Weights] = grow
    network: Callable[[Weights, CortexConfig], Cortex] = Cortex.of
    trainable: Callable[[Weights], Weights] = all_of
    answer: Callable[[Cortex, Images, ExperimentConfig], Answers] = answer
    extra_bytes: Callable[[Weights], dict[str, int]] = no_extra_bytes

    @property
    def plain(self) -> bool:
        """Whether what it learns is one network with a linear classifier, which answers by itself."""
        return self.network == Cortex.of and self.answer is answer

    @property
    def facts(self) -> MethodFacts:
        """What must be known of it without its code."""
        return FACTS[self.name]
