"""A new diagnosis: a task appended to the registry of an experiment that has learned all it had, or taken back.

Both read, change and write the checkpoint under the experiment's lock.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from braincl_med.federation.begun import encoded_at
from braincl_med.federation.checkpoint import NAME, Checkpoint, folder_of, load_checkpoint, save_checkpoint
from braincl_med.foundation.errors import ConfigError, DataError
from braincl_med.foundation.files import locked
from braincl_med.records.database import STORE_NAME
from braincl_med.records.store import RunStore
from braincl_med.settings.config import ExplicitTask, StreamConfig
from braincl_med.streams.availability import require_scans
from braincl_med.streams.catalogue import parse_class
from braincl_med.streams.tasks import Registry, TaskSpec


def existing(state: Path, experiment: str) -> Checkpoint:
    """The checkpoint of an experiment.

    Raises:
        ConfigError: the state root has none of that name; the message lists those it has.
    """
    # A name is one folder's; anything else would look elsewhere.
    plain = Path(experiment).name == experiment and len(experiment) < 64
    checkpoint = load_checkpoint(folder_of(state, experiment)) if plain else None
    if checkpoint is None:
        names = ", ".join(sorted(p.parent.name for p in (state / "server").glob(f"*/{NAME}"))) or "none"
        raise ConfigError(f"no experiment {experiment[:70]!r} in this state root; it has: {names}")
    return checkpoint


def add_task(
    state: Path, experiment: str, name: str, classes: Sequence[str], data: Path | None = None, *, look: bool = True
) -> Registry:
    """Validate a new task and append it to a finished experiment's registry.

    Args:
        state: the state root.
        experiment: a finished experiment.
        name: of the task, unique within the experiment.
        classes: `dataset/label` or `dataset/class name`; none may be learned already.
        data: where MedMNIST's files lie; None means medmnist's own folder.
        look: refuse the task when its scans are not on this machine; without, hospitals are trusted to hold them.

    Raises:
        ConfigError: the experiment is unknown or unfinished or has a long tail, the name is taken or no identifier, a
            class does not exist, is learned already or is named twice.
        DataError: the scans are missing or damaged.
        LockedError: a run or another change of the experiment is under way.
    """
    with held(state, experiment) as checkpoint:
        if checkpoint.interrupted or not checkpoint.finished:
            raise ConfigError(
                f"experiment '{experiment}' has not learned all its tasks yet: finish its run first, or "
                f"take '{checkpoint.registry.tasks[-1].name}' back (`braincl tasks remove`)"
            )
        stream = StreamConfig.model_validate(checkpoint.settings["stream"])
        if stream.imbalance > 1:
            raise ConfigError(
                f"'{experiment}' has a long tail over its classes (stream-imbalance), which one more would change: "
                "describe all tasks in a configuration of another name"
            )
        if not classes:
            raise ConfigError(f"task '{name[:70]}' names no class: give at least one, as bloodmnist/0")
        specs = tuple(parse_class(text) for text in classes)
        _check_name(name)
        registry = checkpoint.registry.with_task(TaskSpec(name=name, classes=specs))
        if held_out := sorted({spec.dataset for spec in specs} & set(stream.unknown)):
            raise ConfigError(f"'{held_out[0]}' is held out as unknown scans (stream-unknown) in '{experiment}'")
        if look:
            try:
                hospitals = checkpoint.settings["federation"]["hospitals"]
                require_scans(specs, ("train", stream.evaluate), stream, data, hospitals)
            except DataError as error:
                raise DataError(f"{error}; --unchecked adds a task whose scans only the hospitals hold") from error
        save_checkpoint(folder_of(state, experiment), checkpoint.model_copy(update={"registry": registry}))
        return registry


def remove_task(state: Path, experiment: str, name: str) -> Registry:
    """Take back the last task of an experiment, which nobody has begun to learn.

    Raises:
        ConfigError: the experiment or the task is unknown; the task is learned, begun, or followed by another one.
        LockedError: a run or another change of the experiment is under way.
    """
    with held(state, experiment) as checkpoint:
        tasks = checkpoint.registry.tasks
        names = [task.name for task in tasks]
        if name not in names:
            raise ConfigError(f"'{experiment}' has no task '{name}'; it has: {', '.join(names)}")
        number = names.index(name)
        if number < checkpoint.task:
            raise ConfigError(f"task '{name}' is learned: the shared network cannot be made to forget it")
        if number + 1 < len(tasks):
            raise ConfigError(
                f"task '{name}' is followed by '{names[-1]}', whose classes count on it: remove that first"
            )
        if number == checkpoint.task and checkpoint.interrupted:
            raise ConfigError(f"task '{name}' is begun: finish it with `braincl run … --resume`")
        if encoded := encoded_at(state, experiment, number):
            raise ConfigError(
                f"'{encoded[0]}' has encoded task '{name}' already: finish it with `braincl run … --resume`, or take "
                "it out of the vault first (`braincl vault erase`)"
            )
        registry = Registry(tasks=tasks[:-1])
        remaining = checkpoint.model_copy(update={"registry": registry})
        if (state / STORE_NAME).is_file():
            # Before the checkpoint: if this process ends in between, the next run records the longer registry again.
            store = RunStore(state)
            store.change_registry(experiment, registry)
            if remaining.finished:
                store.end(experiment, "finished")
        save_checkpoint(folder_of(state, experiment), remaining)
        return registry


@contextlib.contextmanager
def held(state: Path, experiment: str) -> Iterator[Checkpoint]:
    """An experiment's checkpoint, which nobody else changes within the block."""
    existing(state, experiment)  # the lock's folder is made if it is missing, and must not be for a wrong name
    with locked(folder_of(state, experiment), f"experiment '{experiment}'"):
        yield existing(state, experiment)


def _check_name(name: str) -> None:
    try:
        ExplicitTask(name=name, classes=("any/0",))
    except ValueError:
        raise ConfigError(
            f"task name '{name}' is refused: use up to 63 lower-case letters, digits and hyphens"
        ) from None
