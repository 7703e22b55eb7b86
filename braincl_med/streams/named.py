"""Named streams: which classes are learned, in which order and in which tasks. No file is touched."""

from collections.abc import Sequence

import numpy as np
from pydantic import ValidationError

from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.seeding import seed_for
from braincl_med.settings.config import StreamConfig
from braincl_med.streams.catalogue import classes_of, parse_class
from braincl_med.streams.sources import source_of
from braincl_med.streams.tasks import ClassSpec, Registry, TaskSpec

SETS: dict[str, tuple[str, ...]] = {
    "medmnist40": (
        "pathmnist",
        "dermamnist",
        "octmnist",
        "pneumoniamnist",
        "breastmnist",
        "bloodmnist",
        "tissuemnist",
    ),
    "medmnist12": ("bloodmnist", "breastmnist", "pneumoniamnist"),
    "medmnist17": ("bloodmnist", "breastmnist", "pneumoniamnist", "retinamnist"),
    "phantom": ("phantom-smear", "phantom-xray", "phantom-ultrasound"),
}
TASK_COUNT = {"medmnist40": 10, "medmnist12": 4, "medmnist17": 4}
"""The number of tasks unless the configuration names one; the other streams have one task a set."""


def build_registry(stream: StreamConfig, seed: int) -> Registry:
    """The tasks of `stream`, from the configuration and the data sets' descriptions alone.

    Classes come set by set (`clinical`) or in one permutation of all of them drawn from `seed` (`shuffled`), and
    are cut into tasks of equal size, give or take one class. The exception: streams whose default is one task a
    set follow the sets' borders in clinical order when no task count is given.

    Raises:
        ConfigError: an unknown data set or class, a class named twice, or more tasks than classes.
    """
    try:
        return Registry(tasks=_tasks_of(stream, seed))
    except ValidationError as error:
        raise ConfigError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _tasks_of(stream: StreamConfig, seed: int) -> tuple[TaskSpec, ...]:
    if stream.name == "tasks":
        return tuple(TaskSpec(name=t.name, classes=tuple(map(parse_class, t.classes))) for t in stream.tasks)
    sets = [classes_of(name) for name in stream.sets or SETS[stream.name]]
    count = stream.task_count or TASK_COUNT.get(stream.name)
    if count is None and stream.order == "clinical":
        return _numbered(sets)
    classes = [spec for held in sets for spec in held]
    if stream.order == "shuffled":
        permutation = np.random.default_rng(seed_for(seed, "order")).permutation(len(classes))
        classes = [classes[i] for i in permutation]
    return _numbered(_cut(classes, count or len(sets)))


def _cut(classes: Sequence[ClassSpec], count: int) -> list[tuple[ClassSpec, ...]]:
    if count > len(classes):
        raise ConfigError(f"stream-task-count {count} is above the {len(classes)} classes that this stream has")
    return [tuple(classes[i] for i in part) for part in np.array_split(np.arange(len(classes)), count)]


def _numbered(groups: Sequence[Sequence[ClassSpec]]) -> tuple[TaskSpec, ...]:
    return tuple(TaskSpec(name=f"task-{i}", classes=tuple(group)) for i, group in enumerate(groups, start=1))


def datasets_of(registry: Registry) -> tuple[str, ...]:
    """The data sets of which some class is learned, in the order of learning."""
    return tuple(dict.fromkeys(spec.dataset for spec in registry.classes))


def unknown_sets(stream: StreamConfig, registry: Registry) -> tuple[str, ...]:
    """The data sets that test the rejection of unknown scans: the configured ones, else one that no task learns.

    The default may have no file; whoever reads it decides whether that matters.

    Raises:
        ConfigError: a configured one does not exist or is learned in a task.
    """
    learned = datasets_of(registry)
    for name in stream.unknown:
        classes_of(name)
        if name in learned:
            raise ConfigError(f"stream-unknown names '{name}', but a task learns it; name a set that no task learns")
    if stream.unknown:
        return stream.unknown
    defaults = dict.fromkeys(source_of(name).unknown for name in learned)
    return tuple(name for name in defaults if name and name not in learned)
