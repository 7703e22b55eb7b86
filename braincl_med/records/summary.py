"""One experiment's figures, computed from the run store: as a value, as JSON, and as a table for the terminal.

Shares (accuracies, spreads, rates) are fractions of 1 in values and JSON, and per cent in the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

import numpy as np

from braincl_med.evaluation.continual import (
    Counts,
    accuracies_after,
    accuracy_matrix,
    average_accuracy,
    class_accuracies,
    forgetting,
    last_accuracy,
)
from braincl_med.evaluation.fairness import Fairness, fairness
from braincl_med.evaluation.rejection import KNOWN, UNKNOWN, auroc, fpr_at_95
from braincl_med.records.store import RunStore, Step
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
        scans: test scans after the latest task.
        first, now: accuracy right after its task and after the latest one; NaN before it is learned.
    """

    number: int
    key: str
    name: str
    task: str
    scans: int
    first: float
    now: float


@dataclass(frozen=True)
class RejectionRow:
    """How well one score tells unknown scans from known ones after one task; NaN where there are no such scans.

    Attributes:
        after_task: the number of the task just learned.
        score: the kind of score, `max-softmax` or `energy`.
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
        matrix: row i, column j: accuracy on task j after task i; NaN above the diagonal.
        after_each: accuracy on all classes known, after each task.
        classes: a row for every class.
        fairness: after the latest task.
        rejection: a row for every task and kind of score.
        at_rest: bytes after the latest task by item, all hospitals together.
        records: samples kept after the latest task, all hospitals together.
        phases: in the order in which they first ran.
        missing: in order of time.
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
    matrix: tuple[tuple[float, ...], ...]
    after_each: tuple[float, ...]
    classes: tuple[ClassRow, ...]
    fairness: Fairness | None
    rejection: tuple[RejectionRow, ...]
    at_rest: dict[str, int]
    records: int | None
    phases: tuple[PhaseRow, ...]
    missing: tuple[MissingRow, ...]

    @property
    def bytes_at_rest(self) -> int | None:
        """All that hospitals keep; None before the first evaluation."""
        return sum(self.at_rest.values()) if self.evaluated else None

    @property
    def bytes_per_sample(self) -> float | None:
        """What one kept sample costs, networks and tables included; None when none is kept."""
        return sum(self.at_rest.values()) / self.records if self.records else None

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
        return self.method == "joint"

    def rejection_now(self, score: str) -> RejectionRow | None:
        """The row of `score` after the latest task."""
        return next((r for r in reversed(self.rejection) if r.score == score), None)

    def mean_near(self, score: str) -> tuple[float, float]:
        """AUROC and FPR at 95 % against near unknown scans, each the mean over the tasks where it is known."""
        rows = [r for r in self.rejection if r.score == score and not isnan(r.auroc_near)]
        if not rows:
            return NAN, NAN
        return float(np.mean([r.auroc_near for r in rows])), float(np.mean([r.fpr95_near for r in rows]))


def summarise(store: RunStore, name: str) -> Summary:
    """Compute an experiment's figures; one that has evaluated nothing yet has a summary too.

    Raises:
        RecordsError: the store has no such experiment, or cannot be read.
    """
    experiment = store.experiment(name)
    registry = experiment.registry
    hospitals, by_hospital = store.confusions(name)
    counts = by_hospital.sum(1)
    evaluated = len(counts)
    numbers = [registry.numbers(t) for t in range(len(registry.tasks))]
    matrix = accuracy_matrix(counts, numbers)
    at_rest: dict[str, int] = {}
    for after_task, _, item, amount in store.storage(name):
        if after_task == evaluated - 1:
            at_rest[item] = at_rest.get(item, 0) + amount
    records = at_rest.pop("records", None)
    steps = store.steps(name)
    return Summary(
        name=name,
        method=experiment.method,
        data=experiment.data,
        synthetic="phantom" in experiment.data.lower() or "synthetic" in experiment.data.lower(),
        seed=experiment.seed,
        status=experiment.status,
        message=experiment.message,
        started=experiment.started,
        updated=experiment.updated,
        tasks=tuple(TaskRow(t.name, tuple(n)) for t, n in zip(registry.tasks, numbers, strict=True)),
        evaluated=evaluated,
        hospitals=hospitals,
        average_accuracy=average_accuracy(counts) if evaluated else None,
        last_accuracy=last_accuracy(counts) if evaluated else None,
        forgetting=forgetting(matrix) if evaluated else None,
        matrix=tuple(tuple(map(float, row)) for row in matrix),
        after_each=tuple(map(float, accuracies_after(counts))),
        classes=_class_rows(registry, counts),
        fairness=fairness(by_hospital[-1], numbers[:evaluated]) if evaluated and by_hospital[-1].sum() else None,
        rejection=_rejection_rows(store, name, evaluated),
        at_rest=at_rest,
        records=records,
        phases=_phase_rows(steps),
        missing=tuple(
            MissingRow(registry.tasks[step.task].name, step.phase, step.round, hospital, reason)
            for step in steps
            for hospital, reason in step.missing.items()
        ),
    )


def _class_rows(registry: Registry, counts: Counts) -> tuple[ClassRow, ...]:
    accuracies = class_accuracies(counts)
    rows = []
    for number, spec in enumerate(registry.classes):
        task = registry.task_of(number)
        learned = task < len(counts)
        rows.append(
            ClassRow(
                number=number,
                key=spec.key,
                name=spec.name,
                task=registry.tasks[task].name,
                scans=int(counts[-1, number].sum()) if learned else 0,
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
    plain: dict[str, Any] = _plain({**asdict(summary), **derived})
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key).replace("_", "-"): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and isnan(value) else value


def percent(share: float | None, digits: int = 1) -> str:
    """A share as per cent; `-` where there is none."""
    return "-" if share is None or isnan(share) else f"{100 * share:.{digits}f} %"


def size(amount: float | None) -> str:
    """A number of bytes with three digits and a unit; `-` where there is none.

    >>> [size(n) for n in (0, 812, 1536, 101_711_872, None)]
    ['0 B', '812 B', '1.50 KiB', '97.0 MiB', '-']
    """
    if amount is None:
        return "-"
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1000 and len(units) > 1:
        amount /= 1024
        del units[0]
    return f"{amount:.0f} {units[0]}" if units[0] == "B" or amount >= 100 else f"{amount:#.3g} {units[0]}"


def duration(seconds: float) -> str:
    """Seconds as a person reads them.

    >>> [duration(s) for s in (4.2, 75, 7260)]
    ['4.2 s', '1 min 15 s', '2 h 1 min']
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


Line = tuple[str, list[str]]


def table(summaries: Sequence[Summary]) -> str:
    """The experiments beside each other, one column each, as plain text.

    Blocks: headline figures, accuracy after each task, every class's accuracy when first learned and now, and what
    else a reader has to know.
    """
    if not summaries:
        return "no experiments yet"
    blocks: list[list[Line]] = [
        _headline(summaries),
        _after_each(summaries),
        _by_class(summaries),
    ]
    lines = [line for block in blocks for line in block]
    first = max(len(label) for label, _ in lines)
    widths = [max(len(cells[i]) for _, cells in lines) for i in range(len(summaries))]
    text = ["\n".join(_row(line, first, widths) for line in block) for block in blocks if block]
    notes = [f"{s.name}: {s.message}" for s in summaries if s.message]
    notes += [f"{s.name}: {s.data}" for s in summaries]
    notes += [
        f"{s.name}: keeps all raw scans, which bytes at rest do not count" for s in summaries if s.keeps_raw_scans
    ]
    return "\n\n".join([*text, "\n".join(notes)])


def _row(line: Line, first: int, widths: Sequence[int]) -> str:
    label, cells = line
    return "  ".join([label.ljust(first), *(c.rjust(w) for c, w in zip(cells, widths, strict=True))]).rstrip()


def _headline(summaries: Sequence[Summary]) -> list[Line]:
    lines: list[Line] = [
        ("", [s.name for s in summaries]),
        ("method", [s.method for s in summaries]),
        ("seed", [str(s.seed) for s in summaries]),
        ("status", [s.status for s in summaries]),
        ("tasks evaluated", [f"{s.evaluated} of {len(s.tasks)}" for s in summaries]),
        ("average accuracy", [percent(s.average_accuracy) for s in summaries]),
        ("last accuracy", [percent(s.last_accuracy) for s in summaries]),
        ("forgetting", [percent(s.forgetting) for s in summaries]),
        ("worst class", [percent(s.fairness.worst_accuracy if s.fairness else None) for s in summaries]),
    ]
    for score in sorted({r.score for s in summaries for r in s.rejection}):
        now = [s.rejection_now(score) for s in summaries]
        lines += [
            (f"AUROC near, {score}, mean", [percent(s.mean_near(score)[0]) for s in summaries]),
            (f"AUROC far, {score}", [percent(r.auroc_far if r else None) for r in now]),
        ]
    lines.append(("bytes at rest", [size(s.bytes_at_rest) for s in summaries]))
    for item in dict.fromkeys(item for s in summaries for item in s.at_rest):
        lines.append((f"  {item}", [size(s.at_rest.get(item)) for s in summaries]))
    return [
        *lines,
        ("samples kept", ["-" if s.records is None else f"{s.records:,}" for s in summaries]),
        ("bytes per sample", [size(s.bytes_per_sample) for s in summaries]),
        ("bytes on the wire", [size(s.bytes_on_wire) for s in summaries]),
        ("time", [duration(s.seconds) for s in summaries]),
        ("answers missing", [str(len(s.missing)) for s in summaries]),
    ]


def _after_each(summaries: Sequence[Summary]) -> list[Line]:
    lines: list[Line] = []
    for number in range(max(s.evaluated for s in summaries)):
        names = {s.tasks[number].name for s in summaries if number < len(s.tasks)}
        label = f"  {number + 1}: {names.pop()}" if len(names) == 1 else f"  task {number + 1}"
        lines.append((label, [percent(s.after_each[number]) if number < s.evaluated else "-" for s in summaries]))
    return [("accuracy after task", [""] * len(summaries)), *lines] if lines else []


def _by_class(summaries: Sequence[Summary]) -> list[Line]:
    learned = [{c.key: c for c in s.classes if not isnan(c.first) or not isnan(c.now)} for s in summaries]
    names = {key: row.name for rows in learned for key, row in rows.items()}
    lines: list[Line] = [
        (
            f"  {name}",
            [f"{percent(r.first)} -> {percent(r.now)}" if (r := rows.get(key)) else "-" for rows in learned],
        )
        for key, name in names.items()
    ]
    return [("accuracy of class, at first -> now", [""] * len(summaries)), *lines] if lines else []
