"""What a clinician asks of one diagnosis: is it found, is it right when it is called, and what is it taken for.

From counts of test scans by true and predicted class alone. A share that counts fewer scans than the smallest group
that may be told is withheld.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from braincl_med.evaluation.continual import class_accuracies
from braincl_med.evaluation.intervals import wilson
from braincl_med.evaluation.tally import Counts, Tally


@dataclass(frozen=True)
class Share:
    """So many of so many; NaN where there are none, or where they are too few to be told.

    Attributes:
        part, whole: scans.
        withheld: whether there are some, and too few.
    """

    part: int
    whole: int
    withheld: bool = False

    @property
    def value(self) -> float:
        """The share."""
        return self.part / self.whole if self.whole and not self.withheld else nan

    @property
    def interval(self) -> tuple[float, float]:
        """Within which the true share lies in 95 of 100 cases (Wilson 1927)."""
        return wilson(self.part, self.whole) if self.whole and not self.withheld else (nan, nan)


@dataclass(frozen=True)
class Diagnosis:
    """One diagnosis among those that are known.

    Attributes:
        number: of its class.
        found: of its own test scans, those that were called by its name: sensitivity, or recall.
        right: of the scans that were called by its name, those that are of it: precision at the test scans' mix.
        false_alarms: of all other scans, those that were called by its name: one minus specificity.
        taken_for: numbers of other classes and how many of its scans were called so, most first.
        first: sensitivity right after it was learned.
        best: the greatest sensitivity it had before the latest task; NaN where there was none.
        best_after: the number of the task after which it had that.
    """

    number: int
    found: Share
    right: Share
    false_alarms: Share
    taken_for: tuple[tuple[int, int], ...]
    first: float
    best: float
    best_after: int

    def precision_at(self, prevalence: float) -> float:
        """How often it is right when it is called, where so many of all patients have it (Bayes' theorem).

        Args:
            prevalence: share of patients with this diagnosis, others as in the test scans.
        """
        called = self.found.value * prevalence + self.false_alarms.value * (1 - prevalence)
        return self.found.value * prevalence / called if called > 0 else nan


def diagnoses(tally: Tally, tasks: Sequence[range], smallest: int = 1) -> tuple[Diagnosis, ...]:
    """Every diagnosis that is known after the latest task, by class number.

    Args:
        tally: test scans after each of T tasks.
        tasks: the class numbers of each task, at least T of them.
        smallest: fewer scans than these are not told of.
    """
    now, accuracies = tally.confusion, class_accuracies(tally)
    called, scans = now.sum(0), now.sum(1)
    rows = []
    for number in [n for task in tasks[: tally.tasks] for n in task]:
        learned = next(t for t, task in enumerate(tasks) if number in task)
        before = accuracies[learned:-1, number]
        known = before[~np.isnan(before)]
        part = int(now[number, number])
        others = int(now.sum() - scans[number])
        rows.append(
            Diagnosis(
                number=number,
                found=share_of(part, int(scans[number]), smallest),
                right=share_of(part, int(called[number]), smallest),
                false_alarms=share_of(int(called[number]) - part, others, smallest),
                taken_for=_taken_for(now[number], number) if scans[number] >= smallest else (),
                first=float(accuracies[learned, number]) if scans[number] >= smallest else nan,
                best=float(known.max()) if len(known) and scans[number] >= smallest else nan,
                best_after=learned + int(np.nanargmax(before)) if len(known) else learned,
            )
        )
    return tuple(rows)


def share_of(part: int, whole: int, smallest: int) -> Share:
    """So many of so many; withheld where these are fewer than `smallest`."""
    return Share(part, whole, withheld=0 < whole < smallest)


def _taken_for(row: Counts, number: int) -> tuple[tuple[int, int], ...]:
    others = [(int(other), int(row[other])) for other in np.argsort(-row, kind="stable") if other != number]
    return tuple((other, count) for other, count in others if count)
