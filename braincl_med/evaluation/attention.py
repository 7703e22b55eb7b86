"""How far a network's attention moved: the same scans' maps by two networks, counted by their correlation.

Pearson's coefficient is the measure CC of Bylinskii et al. (2019), who compare maps of where people look.
"""

import numpy as np
import numpy.typing as npt

from braincl_med.evaluation.continual import Figures
from braincl_med.evaluation.tally import Counts

EDGES: Figures = np.linspace(-1, 1, 21)
"""Of the bins in which correlations are counted."""
STAYED = 0.5
"""From this correlation on attention is said to have stayed; an edge of the bins."""
ROUNDING = 1e-6
"""Of a map's length, what it may vary by and still be the same everywhere."""


def correlations(before: Figures, now: Figures) -> Figures:
    """Pearson's correlation of each scan's two maps (n, h, w): (n,), NaN where one of them is the same everywhere."""
    (first, one), (second, other) = (
        _centred(maps.reshape(len(maps), -1).astype(np.float64)) for maps in (before, now)
    )
    told: Figures = np.where(one & other, np.clip((first * second).sum(1), -1, 1), np.nan)
    return told


def _centred(maps: Figures) -> tuple[Figures, npt.NDArray[np.bool_]]:
    """Rows about their mean, of length 1, and which of them vary by more than rounding."""
    centred = maps - maps.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1)
    varied = length > ROUNDING * np.linalg.norm(maps, axis=1)
    return centred / np.where(varied, length, 1)[:, None], varied


def counted(values: Figures) -> Counts:
    """Counts of correlations over the bins; those that are NaN are in none."""
    return np.histogram(values[~np.isnan(values)], bins=EDGES)[0].astype(np.int64)


def stayed(counts: Counts) -> int:
    """Scans whose attention stayed, of counts over the bins."""
    return int(counts[EDGES[:-1] > STAYED - 1e-9].sum())
