"""What a method of continual learning is to the federation: the steps of a task, and what is trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from braincl_med.config import ExperimentConfig
from braincl_med.streams.tasks import Registry, Scans

Steps = tuple[tuple[str, int], ...]
"""(phase, round) in order; phases are methods of the Hospital."""


class Material(Protocol):
    """Where a hospital's training samples come from."""

    def raw(self, registry: Registry, task: int) -> Scans:
        """The hospital's own raw training scans of a task; only methods to compare with may ask for them."""

    def recalled(self, task: int) -> Scans:
        """The samples recalled from the vault's memory of a task."""


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: as in `method: …`.
        steps: the exchanges of one task under a configuration.
        samples: what the whole network is trained on at task `task`.
        recalls: whether those samples are recalls (and are dithered in training) or raw scans.
    """

    name: str
    steps: Callable[[ExperimentConfig], Steps]
    samples: Callable[[Material, Registry, int], Scans]
    recalls: bool


def training_rounds(config: ExperimentConfig, phase: str) -> Steps:
    """The rounds of `phase`, which trains the whole network, and what must follow them.

    Averaged weights do not fit averaged batch statistics, so these are taken anew once the last round is averaged.
    """
    calibrate = (("calibrate", 0),) if config.cortex.norm == "batch" else ()
    return (*((phase, r) for r in range(config.sleep.rounds)), *calibrate)


def train_and_evaluate(config: ExperimentConfig) -> Steps:
    """The steps of a method that only trains the whole network, for as many rounds as sleep has."""
    return (*training_rounds(config, "train"), ("evaluate", 0))
