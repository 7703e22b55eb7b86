"""What a task is: named classes of a data set, numbered in the order in which they are learned."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from braincl_med.foundation.errors import ConfigError
from braincl_med.scans.names import code_of, label_of
from braincl_med.settings.section import Identifier

MOST_HOSPITALS = 10_000
OWN = "own"
"""The set of hospitals' own scans; others are named `own-…`."""


def is_own(dataset: str) -> bool:
    """Whether a data set is of hospitals' own scans, whose classes are names and not numbers."""
    return dataset == OWN or dataset.startswith(f"{OWN}-")


def _spelt(label: str) -> str:
    if label_of(label) != label:
        raise ValueError("no name of a class, or not in its one spelling")
    return label


def _coded(code: str) -> str:
    if code and code_of(code) != code:
        raise ValueError("no code, or not in its one spelling")
    return code


class ClassSpec(BaseModel):
    """One diagnosis: `label` of data set `dataset`, under the name a clinician reads.

    Attributes:
        label: a number in a set whose classes are listed; in a hospital's own scans the class's name in its one
            spelling, by which it is the same class at every hospital.
        code: `system:code` in a terminology (`scans.names.CODES`), or empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: Identifier
    label: Annotated[int, Field(ge=0, strict=True)] | Annotated[str, AfterValidator(_spelt)]
    name: str = Field(max_length=200)
    code: Annotated[str, AfterValidator(_coded)] = ""

    @model_validator(mode="after")
    def _named_as_its_set_is(self) -> Self:
        if isinstance(self.label, str) != is_own(self.dataset):
            raise ValueError(f"the classes of '{self.dataset}' are {'names' if is_own(self.dataset) else 'numbers'}")
        return self

    @property
    def key(self) -> str:
        """`dataset/label`, how configurations name a class."""
        return f"{self.dataset}/{self.label}"

    @property
    def labels(self) -> tuple[int | str, ...]:
        """The labels of its scans: its own, and in a hospital's own scans its code."""
        return (self.label, self.code, self.code.partition(":")[2]) if self.code else (self.label,)


class TaskSpec(BaseModel):
    """The classes that are learned together.

    Attributes:
        dealt: over how many hospitals its scans are dealt out; None where that is as many as there are now.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Identifier
    classes: Annotated[tuple[ClassSpec, ...], Field(min_length=1, max_length=10_000)]
    dealt: Annotated[int, Field(ge=1, le=MOST_HOSPITALS)] | None = None

    @model_serializer(mode="wrap")
    def _said_where_it_is_not_the_rule(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = serialise(self)
        return {key: value for key, value in told.items() if key != "dealt" or value is not None}

    def over(self, hospitals: int | None) -> Self:
        """The task dealt out over that many hospitals."""
        return self.model_copy(update={"dealt": hospitals})

    def is_as(self, other: "TaskSpec") -> bool:
        """Whether both have the same name and classes."""
        return self.over(None) == other.over(None)


class Registry(BaseModel):
    """All tasks of an experiment in the order of learning; a class's number is its row in the classifier."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: Annotated[tuple[TaskSpec, ...], Field(max_length=10_000)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        keys = [c.key for c in self.classes]
        twice = sorted(key for key, count in Counter(keys).items() if count > 1)
        if twice:
            raise ValueError(f"classes in more than one task: {', '.join(twice)}; a class is learned once")
        if alike := _alike(self.classes):
            raise ValueError(
                f"{alike[0]} and {alike[1]} are one class: they share a code, or one's name is the other's"
            )
        names = [t.name for t in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"two tasks have one name: {', '.join(sorted(names))}")
        return self

    @property
    def classes(self) -> tuple[ClassSpec, ...]:
        """Every class in the order of its number."""
        return tuple(c for task in self.tasks for c in task.classes)

    def numbers(self, task: int) -> range:
        """The numbers of the classes of `task`."""
        start = sum(len(t.classes) for t in self.tasks[:task])
        return range(start, start + len(self.tasks[task].classes))

    def seen(self, task: int) -> int:
        """How many classes are known once `task` is learned."""
        return self.numbers(task).stop

    def dealt_until(self, task: int, hospitals: int) -> "Registry":
        """The registry in which tasks before `task` stay dealt out over `hospitals`, or as they say already."""
        begun = tuple(each if each.dealt else each.over(hospitals) for each in self.tasks[:task])
        return Registry(tasks=(*begun, *self.tasks[task:]))

    def task_of(self, number: int) -> int:
        """The task in which class `number` is learned."""
        return next(t for t in range(len(self.tasks)) if number in self.numbers(t))

    def with_task(self, task: TaskSpec) -> "Registry":
        """The registry with one more task at its end.

        Raises:
            ConfigError: a class or the name is there already.
        """
        known = {c.key: t.name for t in self.tasks for c in t.classes}
        for spec in task.classes:
            if spec.key in known:
                raise ConfigError(f"class '{spec.key}' is already learned in task '{known[spec.key]}'")
            if [other.key for other in task.classes].count(spec.key) > 1:
                raise ConfigError(f"class '{spec.key}' is named twice")
        if alike := _alike([*self.classes, *task.classes]):
            raise ConfigError(
                f"'{alike[0]}' and '{alike[1]}' would be one class: they share a code, or one's name is the other's"
            )
        if task.name in {t.name for t in self.tasks}:
            raise ConfigError(f"there is already a task named '{task.name}'; choose another name")
        return Registry(tasks=(*self.tasks, task))


def _alike(classes: Sequence[ClassSpec]) -> tuple[str, str] | None:
    """Two classes of one set that share a label or a code."""
    known: dict[tuple[str, int | str], str] = {}
    for spec in classes:
        for label in spec.labels:
            if known.setdefault((spec.dataset, label), spec.key) != spec.key:
                return known[spec.dataset, label], spec.key
    return None


@dataclass(frozen=True)
class Scans:
    """Scans and the numbers of their classes.

    Attributes:
        images: (n, height, width, 3) uint8; grey scans have three equal channels.
        labels: (n,) int64, class numbers of the registry.
        patients: (n,) int64, a number for each patient, meaningless beyond these scans; None where nobody says.
        groups: (n,) tuples of the groups of patients that each is of (`foundation.groups`); None where nobody says.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    patients: npt.NDArray[np.int64] | None = None
    groups: npt.NDArray[np.object_] | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[-1] != 3:
            raise ValueError(f"images are {self.images.dtype} {self.images.shape}, expected uint8 (n, h, w, 3)")
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"{len(self.images)} images but labels of shape {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: npt.NDArray[Any]) -> "Scans":
        """The scans at `index` (positions or a mask)."""
        patients, groups = (None if told is None else told[index] for told in (self.patients, self.groups))
        return Scans(self.images[index], self.labels[index], patients, groups)

    @staticmethod
    def join(parts: Iterable["Scans"]) -> "Scans":
        """All scans of `parts`, in their order, without their patients; the sizes must agree."""
        held = list(parts)
        told = [no_groups(len(p)) if p.groups is None else p.groups for p in held]
        return Scans(
            np.concatenate([p.images for p in held]),
            np.concatenate([p.labels for p in held]).astype(np.int64),
            groups=np.concatenate(told) if any(p.groups is not None for p in held) else None,
        )

    @staticmethod
    def none(size: int) -> "Scans":
        """No scans, of `size` pixels a side."""
        return Scans(np.zeros((0, size, size, 3), np.uint8), np.zeros(0, np.int64))


def no_groups(scans: int) -> npt.NDArray[np.object_]:
    """(scans,) empty tuples: of none of them is it known which groups of patients it belongs to."""
    groups = np.empty(scans, np.object_)
    groups[:] = [()] * scans
    return groups
