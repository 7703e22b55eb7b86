"""Which network is meant: an experiment of a state root, or a folder that was exported."""

from pathlib import Path

from pydantic import ValidationError

from braincl_med.cortex.familiarity import Familiarity
from braincl_med.federation.checkpoint import Checkpoint, folder_of, load_moments, load_network
from braincl_med.federation.extend import existing
from braincl_med.foundation.errors import ConfigError
from braincl_med.inference.model import Model, alone, require_plain
from braincl_med.inference.stored import DESCRIPTION, read_model
from braincl_med.settings.config import CortexConfig, StreamConfig
from braincl_med.streams.tasks import Registry


def opened(named: str, state: Path) -> Model:
    """The network that a command line names.

    Args:
        named: an exported folder or its `model.json`, else an experiment's name.
        state: the state root in which experiments are looked for.

    Raises:
        ConfigError: there is neither, or it cannot be used by itself.
        VaultError: as `read_model` and `load_checkpoint`.
    """
    path = Path(named)
    if path.is_file() or (path / DESCRIPTION).is_file() or (path.name != named and path.is_dir()):
        return read_model(path)
    return of_experiment(state, named)


def of_experiment(state: Path, experiment: str) -> Model:
    """The network of an experiment of which at least one task is learned and none begun.

    Raises:
        ConfigError: there is no such experiment, its network is not finished, or cannot be used by itself.
        VaultError: its checkpoint is damaged.
    """
    checkpoint = existing(state, experiment)
    _require_learned(checkpoint)
    require_plain(str(checkpoint.settings.get("method")))
    try:
        stream = StreamConfig.model_validate(checkpoint.settings["stream"])
        cortex = CortexConfig.model_validate(checkpoint.settings["cortex"])
    except (KeyError, ValidationError):
        raise ConfigError(
            f"'{experiment}' was begun with settings that this version refuses: use the one that began it"
        ) from None
    folder = folder_of(state, experiment)
    told = load_moments(folder, checkpoint)
    return Model(
        experiment=experiment,
        method=str(checkpoint.settings["method"]),
        registry=Registry(tasks=checkpoint.registry.tasks[: checkpoint.task]),
        cortex=alone(cortex),
        size=stream.size,
        fit=stream.fit,
        weights=load_network(folder, checkpoint),
        familiarity=Familiarity.of(told) if told else None,
        operating=checkpoint.operating,
    )


def _require_learned(checkpoint: Checkpoint) -> None:
    name = checkpoint.experiment
    if checkpoint.interrupted:
        task = checkpoint.registry.tasks[checkpoint.task].name
        raise ConfigError(f"'{name}' is learning task '{task}' or was interrupted in it: finish it first")
    if not checkpoint.task or not checkpoint.weights:
        raise ConfigError(f"'{name}' has learned nothing yet: run it first")
