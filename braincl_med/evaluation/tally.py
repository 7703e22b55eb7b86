"""Test scans counted after each task: how many were recognised; after the latest, what others were taken for."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
    """What hospitals counted; a matrix for every task would grow with the square of the classes.

    Attributes:
        hospitals: names, of length H.
        correct: (T, H, C) recognised test scans after each task, by hospital and class.
        scans: (T, H, C) test scans; 0 for a class that is not learned yet, and of a hospital that did not evaluate.
        latest: (H, C, C) those after the latest task, rows true, columns predicted; all zero before the first.
    """

    hospitals: tuple[str, ...]
    correct: Counts
    scans: Counts
    latest: Counts

    @classmethod
    def of(cls, hospitals: tuple[str, ...], counts: Counts) -> Self:
        """From (T, H, C, C) counts after each task, rows true, columns predicted."""
        latest = counts[-1] if len(counts) else np.zeros(counts.shape[1:], np.int64)
        return cls(hospitals, np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), latest)

    @property
    def tasks(self) -> int:
        """T: after how many tasks somebody counted."""
        return len(self.scans)

    @property
    def together(self) -> tuple[Counts, Counts]:
        """(T, C) recognised test scans, and test scans, of all hospitals."""
        return self.correct.sum(1), self.scans.sum(1)

    @property
    def confusion(self) -> Counts:
        """(C, C) counts of all hospitals after the latest task, rows true, columns predicted."""
        summed: Counts = self.latest.sum(0)
        return summed
