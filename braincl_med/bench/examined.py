"""Benchmarks whose networks were examined: what rows differ in beside accuracy, as a table."""

from collections.abc import Callable, Sequence

import numpy as np

from braincl_med.bench.cells import Result
from braincl_med.bench.plan import BenchConfig, Row
from braincl_med.records.examined import DEFAULT_SCORE, Examined

SOFTMAX = "max-softmax"
Figure = Callable[[Examined], float]


def _area(score: str, group: str) -> Figure:
    """The AUROC of a group of scans by a score, in percent."""

    def of(found: Examined) -> float:
        told = found.separation(score, group)
        return 100 * told.auroc if told else float("nan")

    return of


def _attention(found: Examined) -> float:
    return 100 * found.attention[0].share if found.attention else float("nan")


AFTER_EACH: dict[str, Figure] = {
    "near AUROC %": _area(DEFAULT_SCORE, "unknown-near"),
    "by softmax": _area(SOFTMAX, "unknown-near"),
    "attention stayed %": _attention,
}
"""Figures after every task that has them, one of them in the table a task and seed."""
AFTER_LAST: dict[str, Figure] = {
    "far AUROC %": _area(DEFAULT_SCORE, "unknown-far"),
    "far by softmax": _area(SOFTMAX, "unknown-far"),
    "mistakes AUROC %": _area(DEFAULT_SCORE, "known-wrong"),
    "mistakes by softmax": _area(SOFTMAX, "known-wrong"),
    "calibration error": lambda found: 100 * found.calibration_error,
    "rough conditions %": lambda found: 100 * found.robustness,
    "effective rank": lambda found: found.effective_rank,
}
"""Figures after the last task."""


def examined_table(bench: BenchConfig, results: Sequence[Result]) -> list[str]:
    """Means over seeds, and of `AFTER_EACH` over tasks, ± the standard deviation; empty where nothing was examined.

    Args:
        bench: the plan, whose first row effective ranks are divided by.
        results: finished cells of one stream.
    """
    if not any(r.examined for r in results):
        return []
    headings = ["method", "spread of classes", "within a task", *AFTER_EACH, *AFTER_LAST, "of the first row's rank"]
    lines = ["", f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    first = {r.cell.seed: AFTER_LAST["effective rank"](r.examined[-1]) for r in _of(bench.rows[0], results)}
    for row in bench.rows:
        mine = _of(row, results)
        if not mine:
            continue
        fair = [r.summary.fairness for r in mine if r.summary.fairness]
        last = [r.examined[-1] for r in mine]
        ranks = [(AFTER_LAST["effective rank"](r.examined[-1]), first.get(r.cell.seed)) for r in mine]
        cells = [
            spread([100 * one.class_spread for one in fair]),
            spread([100 * one.within_tasks for one in fair]),
            *(spread([figure(one) for r in mine for one in r.examined]) for figure in AFTER_EACH.values()),
            *(spread([figure(one) for one in last]) for figure in AFTER_LAST.values()),
            spread([rank / of for rank, of in ranks if of], 2),
        ]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return lines


def _of(row: Row, results: Sequence[Result]) -> list[Result]:
    return [r for r in results if r.cell.row == row and r.examined]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The mean, and ± the standard deviation of several; empty where there are none but NaN."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return ""
    deviation = f" ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else ""
    return f"{np.mean(known):.{digits}f}{deviation}"
