"""Schedules that methods to compare with share."""

from braincl_med.methods.evaluate import EVALUATE
from braincl_med.methods.phase import Phase, Schedule
from braincl_med.methods.training import SHARED, TRAIN, training_rounds
from braincl_med.settings.config import ExperimentConfig

TRAINED = (TRAIN, *SHARED, EVALUATE)
"""The phases of a method that only trains the whole network."""


def train_and_evaluate(config: ExperimentConfig) -> Schedule:
    """Train the whole network, for as many rounds as sleep has, and evaluate."""
    return train_then(config, TRAIN)


def train_then(config: ExperimentConfig, train: Phase, *after: Phase) -> Schedule:
    """The rounds of `train` and what must follow them, then one round of each of `after`, then evaluate."""
    return (*training_rounds(config, train), *((phase, 0) for phase in after), (EVALUATE, 0))
