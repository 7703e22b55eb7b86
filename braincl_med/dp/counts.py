"""Counts with noise, and the nearest counts that their sum may stand for."""

import numpy as np
import numpy.typing as npt

from braincl_med.dp.gaussian import noise


def noisy_counts(
    counts: npt.NDArray[np.float64], multiplier: float, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Counts with noise, rounded; some may be below zero, so that sums of them are right on average.

    A scan is in one of them, so the noise multiplier is the noise's standard deviation.
    """
    return np.rint(counts + noise(counts.shape, multiplier, generator)).astype(np.int64)


def shares_of(patients: npt.NDArray[np.int64] | None, scans: int) -> npt.NDArray[np.float64]:
    """(n,) what each scan counts: 1, or where patients are known one over the number of the patient's scans."""
    if patients is None or not scans:
        return np.ones(scans)
    _, place, counts = np.unique(patients, return_inverse=True, return_counts=True)
    shares: npt.NDArray[np.float64] = 1 / counts[place]
    return shares


def settled(noisy: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Noisy counts (classes, classes) of all hospitals together as counts: none below zero, rows with their own sums.

    Noise cut at zero would add errors that nobody made; so every row is moved to the nearest one without negative
    numbers and with its own sum (projection onto a simplex), which takes most of what is noise alone away. That reads
    no scan.
    """
    return np.stack([_whole(_on_simplex(row.astype(np.float64), float(max(0, row.sum())))) for row in noisy])


def _on_simplex(row: npt.NDArray[np.float64], total: float) -> npt.NDArray[np.float64]:
    """The nearest row that is nowhere negative and adds up to `total` (Duchi et al. 2008, figure 1)."""
    descending = np.sort(row)[::-1]
    excess = (np.cumsum(descending) - total) / np.arange(1, len(row) + 1)
    kept = int(np.flatnonzero(descending - excess > 0)[-1]) if total else 0
    return np.maximum(row - excess[kept], 0) if total else np.zeros_like(row)


def _whole(row: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Whole numbers with the same sum, which is whole: the largest remainders are rounded up."""
    floor = np.floor(row + 1e-9)
    missing = round(float(row.sum() - floor.sum()))
    floor[np.argsort(floor - row, kind="stable")[:missing]] += 1
    return floor.astype(np.int64)
