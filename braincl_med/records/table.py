"""Figures as a person reads them, and experiments beside each other as a table for the terminal."""

from collections.abc import Sequence
from math import isnan

from braincl_med.records.summary import ClassRow, Summary

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


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
    unit, of = unit_of(amount)
    amount /= of
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:#.3g} {unit}"


def unit_of(largest: float) -> tuple[str, int]:
    """The unit for numbers of bytes of which this is the largest: below 1,000 of it; and its bytes.

    >>> [unit_of(n) for n in (0, 999, 1000, 5_000_000)]
    [('B', 1), ('B', 1), ('KiB', 1024), ('MiB', 1048576)]
    """
    power = 0
    while largest / 1024**power >= 1000 and power < len(UNITS) - 1:
        power += 1
    return UNITS[power], 1024**power


def points(difference: float | None) -> str:
    """A difference of shares of 1, in percentage points; `-` where there is none.

    >>> [points(d) for d in (0.034, -0.02, float("nan"), None)]
    ['3.4 points', '-2.0 points', '-', '-']
    """
    return "-" if difference is None or isnan(difference) else f"{100 * difference:.1f} points"


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
        f"{s.name}: withheld: {s.withheld} classes of fewer than {s.smallest} test scans"
        for s in summaries
        if s.withheld
    ]
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
    if any(s.epsilon is not None for s in summaries):
        lines.append(
            ("ε spent (worst hospital)", ["-" if s.epsilon is None else f"{s.epsilon:.2f}" for s in summaries])
        )
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


def _change(row: ClassRow) -> str:
    return f"{percent(row.first)} -> {'withheld' if row.scans is None else percent(row.now)}"


def _by_class(summaries: Sequence[Summary]) -> list[Line]:
    learned = [
        {c.key: c for c in s.classes if c.scans is None or not (isnan(c.first) and isnan(c.now))} for s in summaries
    ]
    names = {key: row.name for rows in learned for key, row in rows.items()}
    lines: list[Line] = [
        (
            f"  {name}",
            [_change(rows[key]) if key in rows else "-" for rows in learned],
        )
        for key, name in names.items()
    ]
    return [("accuracy of class, at first -> now", [""] * len(summaries)), *lines] if lines else []
