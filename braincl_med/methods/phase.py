"""A phase as a value: what runs it at a hospital, what it needs, what it answers, and what follows from that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from braincl_med.cortex.cortex import Tensors, Weights
from braincl_med.cortex.gaussians import impossible_moments, no_moments
from braincl_med.foundation.arrays import Images
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.messages.update import impossible_statistics, objection
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.privacy import Mode
from braincl_med.streams.tasks import Registry, Scans

if TYPE_CHECKING:
    from braincl_med.dp.ledger import Ledger
    from braincl_med.methods.base import Method
    from braincl_med.methods.kept import Kept
    from braincl_med.vault.vault import Vault


class Site(Protocol):
    """What a phase may ask of the hospital it runs at."""

    @property
    def config(self) -> ExperimentConfig:
        """The experiment."""

    @property
    def method(self) -> "Method":
        """The experiment's method."""

    @property
    def name(self) -> str:
        """The hospital's name."""

    @property
    def share(self) -> int:
        """The number of the hospital's share of a simulated stream."""

    @property
    def vault(self) -> "Vault":
        """The hospital's memories of this experiment."""

    @property
    def kept(self) -> "Kept":
        """What a method to compare with keeps beside them; BrainCL keeps nothing there."""

    @property
    def ledger(self) -> "Ledger":
        """What this hospital has released under differential privacy, and what it allows."""

    def raw(self, registry: Registry, task: int) -> Scans:
        """The hospital's own raw training scans of a task; BrainCL asks for them in `encode` only."""

    def evaluated(self, registry: Registry, task: int) -> Scans:
        """The hospital's raw test or validation scans of a task."""

    def validation(self, registry: Registry, task: int) -> Scans:
        """The hospital's raw validation scans of a task; none where its data have no such split."""

    def unknown(self, registry: Registry) -> Sequence[Images]:
        """Scans of data sets that no task learns; none where there are none and nobody asked for them.

        Raises:
            DataError: the configuration names some, and they cannot be read.
        """

    def public(self) -> Scans:
        """Scans of the sets that teach the memory in place of a task's; none where it is not public ones that do."""

    def recalled(self, task: int) -> Scans:
        """The samples recalled from the vault's memory of a task."""

    def seed(self, order: Order) -> int:
        """The seed of all that is random in an order."""


@dataclass(frozen=True)
class Answer:
    """What hospitals answer to a phase.

    Attributes:
        tensors: of the shared network that training may change and hospitals were sent, those that an answer holds,
            no more and no fewer; an answer's must have their shapes and types.
        published: whether it holds something learned from scans.
        summed: whether hospitals' answers are joined by their weighted sum, but for integer buffers.
        impossible: why the values of such tensors cannot come from scans, or None.
        adds_up: whether they are sums over one task, which are added to those of the tasks before.
    """

    tensors: Callable[[Weights], Weights]
    published: bool = True
    summed: bool = True
    impossible: Callable[[Tensors], str | None] = impossible_statistics
    adds_up: bool = False

    def objection(self, told: Tensors, trainable: Weights) -> str | None:
        """Why tensors are no such answer, or None; `trainable` is what was sent of the network that may change."""
        return objection(told, self.tensors(trainable)) or self.impossible(told)


def named(*prefixes: str) -> Callable[[Weights], Weights]:
    """The tensors whose names begin with one of `prefixes`."""
    return lambda weights: {name: tensor for name, tensor in weights.items() if name.startswith(prefixes)}


def buffers(weights: Weights) -> Weights:
    """The statistics of normalisation."""
    return {n: t for n, t in weights.items() if "running_" in n or "num_batches_tracked" in n}


NOTHING = Answer(lambda weights: {}, published=False, summed=False)
FIGURES = Answer(lambda weights: {}, published=False, summed=False)
EXAMINED = Answer(lambda weights: {}, published=False, summed=False)
WEIGHTS = Answer(dict)
CLASSIFIER = Answer(named("classifier."))
BUFFERS = Answer(buffers)
FEATURE_MOMENTS = Answer(no_moments, impossible=impossible_moments)
TASK_MOMENTS = Answer(no_moments, impossible=impossible_moments, adds_up=True)


BEFORE = "before."
"""Begins the names of tensors of the shared network as it was before the last task."""


class Need(Enum):
    """What a phase must be sent."""

    NOTHING = "nothing"
    NETWORK = "the shared network"
    NETWORK_AND_MOMENTS = "the shared network, and the moments of all hospitals' features where they are known"
    TWO_NETWORKS = "these, and the shared network as it was before the last task where that is kept"


@dataclass(frozen=True)
class Phase:
    """A kind of step.

    Attributes:
        name: in orders, records and seeds.
        run: carries an order out at a hospital.
        answer: what is answered.
        need: what is sent.
        bounded: the modes of differential privacy under which every number that it tells is bounded by the hospital's
            ledger; under any other it is not run, unless it tells nothing of scans.
    """

    name: str
    run: Callable[[Site, Order], Report]
    answer: Answer = NOTHING
    need: Need = Need.NETWORK
    bounded: frozenset[Mode] = frozenset()


Schedule = tuple[tuple[Phase, int], ...]
"""The steps of one task in order: a phase and its round."""


def rounds(phase: Phase, count: int) -> Schedule:
    """A phase for a number of rounds."""
    return tuple((phase, number) for number in range(count))
