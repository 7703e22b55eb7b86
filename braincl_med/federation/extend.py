"""A new diagnosis: a task appended to the registry of an experiment that has learned all it had."""

from collections.abc import Sequence
from pathlib import Path

from braincl_med.federation.checkpoint import Checkpoint, folder_of, load_checkpoint, save_checkpoint
from braincl_med.foundation.errors import ConfigError
from braincl_med.settings.config import ExplicitTask, StreamConfig
from braincl_med.streams.catalogue import parse_class
from braincl_med.streams.tasks import Registry, TaskSpec


def existing(state: Path, experiment: str) -> Checkpoint:
    """The checkpoint of an experiment.

    Raises:
        ConfigError: the state root has none of that name; the message lists those it has.
    """
    checkpoint = load_checkpoint(folder_of(state, experiment))
    if checkpoint is None:
        names = ", ".join(sorted(p.name for p in (state / "server").glob("*") if p.is_dir())) or "none"
        raise ConfigError(f"no experiment '{experiment}' in this state root; it has: {names}")
    return checkpoint


def add_task(state: Path, experiment: str, name: str, classes: Sequence[str]) -> Registry:
    """Validate a new task and append it to a finished experiment's registry.

    Args:
        state: the state root.
        experiment: a finished experiment.
        name: of the task, unique within the experiment.
        classes: `dataset/label` or `dataset/class name`; none may be learned already.

    Raises:
        ConfigError: the experiment is unknown or unfinished or has a long tail, the name is taken or no identifier, a
            class does not exist, is learned already or is named twice.
    """
    checkpoint = existing(state, experiment)
    if checkpoint.interrupted or not checkpoint.finished:
        raise ConfigError(f"experiment '{experiment}' has not learned all its tasks yet: finish its run first")
    stream = StreamConfig.model_validate(checkpoint.settings["stream"])
    if stream.imbalance > 1:
        raise ConfigError(
            f"'{experiment}' has a long tail over its classes (stream-imbalance), which one more would change: "
            "describe all tasks in a configuration of another name"
        )
    specs = tuple(parse_class(text) for text in classes)
    registry = checkpoint.registry.with_task(TaskSpec(name=name, classes=specs))
    _check_name(name)
    held_out = sorted({spec.dataset for spec in specs} & set(stream.unknown))
    if held_out:
        raise ConfigError(f"'{held_out[0]}' is held out as unknown scans (stream-unknown) in '{experiment}'")
    save_checkpoint(folder_of(state, experiment), checkpoint.model_copy(update={"registry": registry}))
    return registry


def _check_name(name: str) -> None:
    try:
        ExplicitTask(name=name, classes=("any/0",))
    except ValueError:
        raise ConfigError(
            f"task name '{name}' is refused: use up to 63 lower-case letters, digits and hyphens"
        ) from None
