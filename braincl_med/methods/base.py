"""What a method of continual learning is to the federation, and what it may ask of a hospital.

A method is a schedule of phases for every task. A phase is a function of a `Site` and an `Order`; the hospital knows
those that methods share (train, calibrate, discriminate, evaluate, and BrainCL's own), a method brings those that it
has alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from braincl_med.cortex.cortex import Cortex, Weights, classify, extract_features
from braincl_med.messages.order import Order, Report
from braincl_med.methods.kept import Kept
from braincl_med.phases.sleep import Objective
from braincl_med.settings.config import CortexConfig, ExperimentConfig
from braincl_med.streams.tasks import Registry, Scans

Images = npt.NDArray[np.uint8]
Steps = tuple[tuple[str, int], ...]
"""(phase, round) in order; phases are methods of the Hospital or stand in `Method.phases`."""


class Site(Protocol):
    """What a method may ask of the hospital it runs at."""

    @property
    def config(self) -> ExperimentConfig:
        """The experiment."""

    @property
    def name(self) -> str:
        """The hospital's name."""

    @property
    def kept(self) -> Kept:
        """What the method itself keeps at this hospital between tasks; BrainCL keeps nothing there."""

    def raw(self, registry: Registry, task: int) -> Scans:
        """The hospital's own raw training scans of a task; only methods to compare with may ask for them."""

    def recalled(self, task: int) -> Scans:
        """The samples recalled from the vault's memory of a task."""

    def seed(self, order: Order) -> int:
        """The seed of all that is random in an order."""

    def class_counts(self, order: Order, samples: Scans) -> dict[str, list[int]]:
        """The figures of a training report: samples by class, where the server needs them."""


Phase = Callable[[Site, Order], Report]


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


def no_extra_bytes(weights: Weights) -> dict[str, int]:
    """One cortex and nothing beside it."""
    return {}


def no_objective(site: Site, order: Order, cortex: Cortex) -> Objective | None:
    """Plain cross-entropy."""
    return None


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: as in `method: …`.
        steps: the exchanges of one task under a configuration.
        samples: what the whole network is trained on at task `task`.
        recalls: whether those samples are recalls (and may be dithered in training) or raw scans.
        phases: the method's own phases, by name.
        objective: the loss of `train` where it is not cross-entropy; called once a round.
        grow: the shared network at the beginning of a task, from its weights and the number of classes.
        network: the shared network of some weights.
        answer: what the network says of scans.
        extra_bytes: of the shared network, beyond one cortex, by item.
    """

    name: str
    steps: Callable[[ExperimentConfig], Steps]
    samples: Callable[[Site, Registry, int], Scans]
    recalls: bool = False
    phases: Mapping[str, Phase] = field(default_factory=dict)
    objective: Callable[[Site, Order, Cortex], Objective | None] = no_objective
    grow: Callable[[Weights, CortexConfig, int], Weights] = grow
    network: Callable[[Weights, CortexConfig], Cortex] = Cortex.of
    answer: Callable[[Cortex, Images, ExperimentConfig], Answers] = answer
    extra_bytes: Callable[[Weights], dict[str, int]] = no_extra_bytes


def training_rounds(config: ExperimentConfig, phase: str) -> Steps:
    """The rounds of `phase`, which trains the whole network, and what must follow them.

    Averaged weights do not fit averaged batch statistics, so these are taken anew once the last round is averaged. A
    classifier that is solved follows from the features of the network as it then is.
    """
    calibrate = (("calibrate", 0),) if config.cortex.norm == "batch" else ()
    discriminate = (("discriminate", 0),) if config.sleep.classifier == "discriminant" else ()
    return (*((phase, r) for r in range(config.sleep.rounds)), *calibrate, *discriminate)


def train_and_evaluate(config: ExperimentConfig) -> Steps:
    """The steps of a method that only trains the whole network, for as many rounds as sleep has."""
    return (*training_rounds(config, "train"), ("evaluate", 0))


def train_remember_evaluate(config: ExperimentConfig) -> Steps:
    """The steps of a method that trains the whole network, then keeps something of the task (`remember`)."""
    return (*training_rounds(config, "train"), ("remember", 0), ("evaluate", 0))
