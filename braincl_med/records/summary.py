"""One experiment's figures, computed from the run store: as a value and as JSON.

Shares (accuracies, spreads, rates) are fractions of 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

import numpy as np

from braincl_med.evaluation.continual import (
    accuracies_after,
    accuracy_matrix,
    average_accuracy,
    class_accuracies,
    forgetting,
    last_accuracy,
)
from braincl_med.evaluation.fairness import Fairness, fairness
from braincl_med.evaluation.rejection import KNOWN, UNKNOWN, auroc, fpr_at_95
from braincl_med.evaluation.tally import Tally
from braincl_med.records.known import smallest_group
from braincl_med.records.schema import Step
from braincl_med.records.store import RunStore
from braincl_med.settings.methods import FACTS
from braincl_med.streams.sources import source_of
from braincl_med.streams.tasks import Registry

NAN = float("nan")


@dataclass(frozen=True)
class TaskRow:
    """A task by name, and the numbers of its classes."""

    name: str
    classes: tuple[int, ...]


@dataclass(frozen=True)
class ClassRow:
    """One diagnosis.

    Attributes:
        number: its row in the classifier.
        key: `dataset/label`, which names it across experiments.
        name: as a clinician reads it.
        task: the name of the task in which it is learned.
        scans: test scans after the latest task; None where they are fewer than `federation-smallest-group`: withheld.
        first, now: accuracy right after its task and after the latest one; NaN before it is learned, and where
            it is withheld.
    """

    number: int
    key: str
    name: str
    task: str
    scans: int | None
    first: float
    now: float


@dataclass(frozen=True)
class RejectionRow:
    """How well one score tells unknown scans from known ones after one task; NaN where there are no such scans.

    Attributes:
        after_task: the number of the task just learned.
        score: the kind of score, a key of `evaluation.rejection.EDGES`.
        near: against scans of diagnoses that are still to be learned; after the last task there are none.
        far: against scans of other examinations altogether.
    """

    after_task: int
    score: str
    auroc_near: float
    auroc_far: float
    fpr95_near: float
    fpr95_far: float


@dataclass(frozen=True)
class PhaseRow:
    """What all exchanges of one phase took together: number, seconds, bytes to and from all hospitals."""

    phase: str
    steps: int
    seconds: float
    bytes_down: int
    bytes_up: int


@dataclass(frozen=True)
class MissingRow:
    """A hospital that gave no usable answer in one exchange, and why."""

    task: str
    phase: str
    round: int
    hospital: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """One experiment's figures. Figures that need an evaluation are None until there is one.

    Attributes:
        data: in words, on which scans it ran.
        synthetic: whether some of them are the built-in phantom, about which medicine learns nothing.
        tasks: all tasks of the experiment, learned or not.
        evaluated: how many tasks are learned and evaluated.
        hospitals: who evaluated, sorted.
        average_accuracy, last_accuracy, forgetting: the paper's figures.
        smallest: of a class, task or hospital of fewer test scans nothing is told.
        matrix: row i, column j: accuracy on task j after task i; NaN above the diagonal, and where it is withheld.
        after_each: accuracy on all classes known, after each task.
        classes: a row for every class.
        fairness: after the latest task, of classes and hospitals with as many test scans as may be told of.
        rejection: a row for every task and kind of score.
        at_rest: bytes after the latest task by item, all hospitals together.
        records: samples kept after the latest task, all hospitals together.
        phases: in the order in which they first ran.
        missing: in order of time.
        epsilon: the most that a hospital had spent in all, over all its experiments; None without privacy.
    """

    name: str
    method: str
    data: str
    synthetic: bool
    seed: int
    status: str
    message: str
    started: str
    updated: str
    tasks: tuple[TaskRow, ...]
    evaluated: int
    hospitals: tuple[str, ...]
    average_accuracy: float | None
    last_accuracy: float | None
    forgetting: float | None
    smallest: int
    matrix: tuple[tuple[float, ...], ...]
    after_each: tuple[float, ...]
    classes: tuple[ClassRow, ...]
    fairness: Fairness | None
    rejection: tuple[RejectionRow, ...]
    at_rest: dict[str, int]
    records: int | None
    phases: tuple[PhaseRow, ...]
    missing: tuple[MissingRow, ...]
    epsilon: float | None

    @property
    def withheld(self) -> int:
        """How many classes have so few test scans that nothing is told of them."""
        return sum(row.scans is None for row in self.classes)

    @property
    def bytes_at_rest(self) -> int | None:
        """All that hospitals keep; None before the first evaluation, and where privacy lets nobody tell."""
        return None if self.records is None else sum(self.at_rest.values())

    @property
    def bytes_per_sample(self) -> float | None:
        """What one kept sample costs, networks and tables that it is read with included; None when none is kept."""
        kept = sum(amount for item, amount in self.at_rest.items() if item != "backbones")
        return kept / self.records if self.records else None

    @property
    def bytes_on_wire(self) -> int:
        """To and from all hospitals, over all exchanges."""
        return sum(p.bytes_down + p.bytes_up for p in self.phases)

    @property
    def seconds(self) -> float:
        """Of all exchanges together."""
        return sum(p.seconds for p in self.phases)

    @property
    def keeps_raw_scans(self) -> bool:
        """Whether the method trains on raw scans of former tasks, which `at_rest` does not count."""
        return self.method in FACTS and FACTS[self.method].keeps_raw_scans

    def rejection_now(self, score: str) -> RejectionRow | None:
        """The row of `score` after the latest task."""
        return next((r for r in reversed(self.rejection) if r.score == score), None)

    def mean_near(self, score: str) -> tuple[float, float]:
        """AUROC and FPR at 95 % against near unknown scans, each the mean over the tasks where it is known."""
        rows = [r for r in self.rejection if r.score == score and not isnan(r.auroc_near)]
        if not rows:
            return NAN, NAN
        return float(np.mean([r.auroc_near for r in rows])), float(np.mean([r.fpr95_near for r in rows]))


def summarise(store: RunStore, name: str, tally: Tally | None = None) -> Summary:
    """Compute an experiment's figures; one that has evaluated nothing yet has a summary too.

    Args:
        store: where it is recorded.
        name: the experiment.
        tally: what the store has counted of it, where that was read already.

    Raises:
        RecordsError: the store has no such experiment, or cannot be read.
    """
    experiment = store.experiment(name)
    registry = experiment.registry
    tally = store.tally(name) if tally is None else tally
    evaluated = tally.tasks
    numbers = [registry.numbers(t) for t in range(len(registry.tasks))]
    smallest = smallest_group(experiment)
    matrix = accuracy_matrix(tally, numbers, smallest)
    at_rest = _at_rest(store.storage(name))
    records = at_rest.pop("records", None)
    steps = store.steps(name)
    enough = (tally.latest.sum((0, 2)) >= smallest).any()
    return Summary(
        name=name,
        method=experiment.method,
        data=experiment.data,
        synthetic=any(source_of(spec.dataset).synthetic for spec in registry.classes),
        seed=experiment.seed,
        status=experiment.status,
        message=experiment.message,
        started=experiment.started,
        updated=experiment.updated,
        tasks=tuple(TaskRow(t.name, tuple(n)) for t, n in zip(registry.tasks, numbers, strict=True)),
        evaluated=evaluated,
        hospitals=tally.hospitals,
        average_accuracy=average_accuracy(tally) if evaluated else None,
        last_accuracy=last_accuracy(tally) if evaluated else None,
        forgetting=forgetting(matrix) if evaluated else None,
        smallest=smallest,
        matrix=tuple(tuple(map(float, row)) for row in matrix),
        after_each=tuple(map(float, accuracies_after(tally))),
        classes=_class_rows(registry, numbers, tally, smallest),
        fairness=fairness(tally.latest, numbers[:evaluated], smallest) if evaluated and enough else None,
        rejection=_rejection_rows(store, name, evaluated),
        at_rest=at_rest,
        records=records,
        phases=_phase_rows(steps),
        missing=tuple(
            MissingRow(registry.tasks[step.task].name, step.phase, step.round, hospital, reason)
            for step in steps
            for hospital, reason in step.missing.items()
        ),
        epsilon=store.epsilon(name),
    )


def _at_rest(storage: Sequence[tuple[int, str, str, int]]) -> dict[str, int]:
    """What all hospitals keep, by item; one that missed the latest evaluation still keeps what it told last."""
    latest = {
        hospital: max(row[0] for row in storage if row[1] == hospital) for hospital in {row[1] for row in storage}
    }
    kept: dict[str, int] = {}
    for after_task, hospital, item, amount in storage:
        if after_task == latest[hospital]:
            kept[item] = kept.get(item, 0) + amount
    return kept


def _class_rows(registry: Registry, numbers: Sequence[range], tally: Tally, smallest: int) -> tuple[ClassRow, ...]:
    accuracies, scans = class_accuracies(tally, smallest), tally.confusion.sum(1)
    rows, classes = [], registry.classes
    for task, number in [(task, number) for task, told in enumerate(numbers) for number in told]:
        spec = classes[number]
        learned = task < tally.tasks
        counted = int(scans[number]) if learned else 0
        rows.append(
            ClassRow(
                number=number,
                key=spec.key,
                name=spec.name,
                task=registry.tasks[task].name,
                scans=None if 0 < counted < smallest else counted,
                first=float(accuracies[task, number]) if learned else NAN,
                now=float(accuracies[-1, number]) if learned else NAN,
            )
        )
    return tuple(rows)


def _rejection_rows(store: RunStore, name: str, evaluated: int) -> tuple[RejectionRow, ...]:
    rows = []
    for after_task in range(evaluated):
        for score, groups in store.scores(name, after_task).items():
            none = np.zeros(len(next(iter(groups.values()))), np.int64)
            known = sum((groups.get(kind, none) for kind in KNOWN), none)
            near, far = (groups.get(kind, none) for kind in UNKNOWN)
            rows.append(
                RejectionRow(
                    after_task=after_task,
                    score=score,
                    auroc_near=auroc(known, near),
                    auroc_far=auroc(known, far),
                    fpr95_near=fpr_at_95(known, near),
                    fpr95_far=fpr_at_95(known, far),
                )
            )
    return tuple(rows)


def _phase_rows(steps: Sequence[Step]) -> tuple[PhaseRow, ...]:
    rows: dict[str, PhaseRow] = {}
    for step in steps:
        so_far = rows.get(step.phase, PhaseRow(step.phase, 0, 0.0, 0, 0))
        rows[step.phase] = PhaseRow(
            phase=step.phase,
            steps=so_far.steps + 1,
            seconds=so_far.seconds + step.seconds,
            bytes_down=so_far.bytes_down + step.bytes_down,
            bytes_up=so_far.bytes_up + step.bytes_up,
        )
    return tuple(rows.values())


def as_json(summary: Summary) -> dict[str, Any]:
    """The summary with kebab-case keys, ready for `json.dumps`; NaN becomes null."""
    derived = {
        "bytes_at_rest": summary.bytes_at_rest,
        "bytes_per_sample": summary.bytes_per_sample,
        "bytes_on_wire": summary.bytes_on_wire,
        "seconds": summary.seconds,
        "keeps_raw_scans": summary.keeps_raw_scans,
    }
    plain: dict[str, Any] = kebab({**asdict(summary), **derived})
    return plain


def kebab(value: Any) -> Any:
    """A value for `json.dumps`, its keys in kebab case; NaN becomes null."""
    if isinstance(value, Mapping):
        return {str(key).replace("_", "-"): kebab(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [kebab(inner) for inner in value]
    return None if isinstance(value, float) and isnan(value) else value
