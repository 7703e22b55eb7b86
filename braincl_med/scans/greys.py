"""Numbers become greys of 8 bits: which numbers are black and which are white."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Greys = npt.NDArray[np.uint8]
Numbers = npt.NDArray[Any]
Show = Callable[[Numbers, npt.NDArray[np.int64] | None], Greys]

LOWEST, HIGHEST = 0.5, 99.5
"""Percentiles of a picture's own numbers that become black and white where nothing else says which do."""

WIDEST_TABLE = 1 << 16
MOST_SAMPLED = 1 << 20


def shown(numbers: Numbers, show: Show) -> Greys:
    """The greys of `numbers`; `show` is asked once for each number that may occur, not once for each pixel.

    Args:
        numbers: (rows, columns) of any kind.
        show: greys of some numbers, of which each counts as often as a second array says, or once without one. The
            greys have the numbers' shape, or one axis more for colours.
    """
    if numbers.dtype.kind in "iub" and numbers.size:
        least, most = int(numbers.min()), int(numbers.max())
        if most - least < min(WIDEST_TABLE, max(256, numbers.size)):
            # 16 bits are enough for the table's rows, whatever the numbers start at.
            rows = (numbers.astype(np.int64) if numbers.itemsize > 2 else numbers.astype(np.int32)) - least
            counts = np.bincount(rows.ravel(), minlength=most - least + 1)
            return np.take(show(np.arange(least, most + 1), counts), rows, axis=0)
    return show(numbers, None)


def stretched(
    numbers: Numbers, counts: npt.NDArray[np.int64] | None = None, without: npt.NDArray[np.bool_] | None = None
) -> Greys:
    """Greys of numbers between the percentiles `LOWEST` and `HIGHEST`; what is no finite number becomes black.

    Args:
        numbers: of any kind and shape.
        counts: how often each occurs, once without.
        without: which numbers stand for no pixel, and have no say in what is black and white.
    """
    values = numbers.astype(np.float64)
    valid = np.isfinite(values)
    if without is not None and (valid & ~without).any():
        valid &= ~without
    if counts is not None:
        valid &= counts > 0
    known = values[valid]
    if not known.size:
        return np.zeros(values.shape, np.uint8)
    low, high = _percentiles(known, None if counts is None else counts[valid])
    if low == high:  # all but a few pixels are alike: those few are what there is to see
        low, high = known.min(), known.max()
    if low == high:
        return np.zeros(values.shape, np.uint8)
    return scaled((np.nan_to_num(values, nan=low) - low) / (high - low))


def scaled(parts: npt.NDArray[np.float64]) -> Greys:
    """Greys of numbers of which 0 and less are black, 1 and more white."""
    return np.rint(np.clip(parts, 0, 1) * 255).astype(np.uint8)


def _percentiles(values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64] | None) -> tuple[float, float]:
    if counts is None:
        sampled = values[:: 1 + values.size // MOST_SAMPLED]
        low, high = np.percentile(sampled, (LOWEST, HIGHEST), method="lower")
        return float(low), float(high)
    order = np.argsort(values, kind="stable")
    below = np.cumsum(counts[order])
    places = np.searchsorted(below, np.floor(np.array((LOWEST, HIGHEST)) / 100 * (below[-1] - 1)), side="right")
    low, high = values[order[places]]
    return float(low), float(high)
