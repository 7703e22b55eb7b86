"""A phantom experiment that learns in seconds, for tests of the whole way."""

from pathlib import Path

from safetensors.torch import save_file

import tests.small_backbone  # noqa: F401
from braincl_med.cortex.cortex import Cortex
from braincl_med.federation.checkpoint import Checkpoint, folder_of, save_checkpoint
from braincl_med.records.store import RunStore
from braincl_med.settings.config import CortexConfig, ExperimentConfig
from braincl_med.settings.loading import load_experiment
from braincl_med.streams.named import build_registry

TINY = """
name: tiny
stream: {name: phantom, task-count: 3, train-per-class: 12, test-per-class: 6}
federation: {hospitals: 2, wait-seconds: 30}
memory: {components: 6, step: 1.0, guidance: 0}
cortex: {network: small, stem: imagenet}
wake: {learning-rate: 0.003, epochs: 2}
selection: {per-class: 8}
sleep: {rounds: 2, epochs: 2, batch-size: 16, learning-rate: 0.02}
"""


def tiny(state, **overrides) -> ExperimentConfig:
    keys = {key.replace("_", "-"): value for key, value in overrides.items()}
    return load_experiment(TINY, {"state-root": str(state), **keys})


def as_if_learned(config: ExperimentConfig) -> ExperimentConfig:
    """Leave what a server keeps once it has learned all tasks of `config`, without learning any."""
    settings, registry = config.as_result_settings(), build_registry(config.stream, config.seed)
    done = Checkpoint(experiment=config.name, settings=settings, registry=registry, task=len(registry.tasks))
    save_checkpoint(folder_of(config.state_folder, config.name), done)
    store = RunStore(config.state_folder, create=True)
    store.begin(settings, registry, {}, "phantoms")
    store.end(config.name, "finished")
    return config


def drawn_start(path: Path, network: str = "small") -> str:
    """A file of weights to start from that have learned nothing; its place, as a setting."""
    weights = Cortex(1, CortexConfig(network=network, stem="imagenet")).weights()
    save_file({name: tensor for name, tensor in weights.items() if name.startswith("backbone.")}, path)
    return str(path)
