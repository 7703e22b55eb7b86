"""A phantom experiment that learns in seconds, for tests of the whole way."""

from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import load_experiment

TINY = """
name: tiny
stream: {name: phantom, task-count: 3, train-per-class: 12, test-per-class: 6}
federation: {hospitals: 2, wait-seconds: 30}
memory: {components: 6, step: 1.0, guidance: 0}
cortex: {stem: imagenet}
wake: {learning-rate: 0.003, epochs: 2}
selection: {per-class: 8}
sleep: {rounds: 2, epochs: 2, batch-size: 16, learning-rate: 0.02}
"""


def tiny(state, **overrides) -> ExperimentConfig:
    keys = {key.replace("_", "-"): value for key, value in overrides.items()}
    return load_experiment(TINY, {"state-root": str(state), **keys})
