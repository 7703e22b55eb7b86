"""Numbers become greys of 8 bits: which numbers are black and which are white."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Greys = npt.NDArray[np.uint8]
Numbers = npt.NDArray[Any]
Count = Callable[[], npt.NDArray[np.int64]]
Show = Callable[[Numbers, Count | None], Greys]

LOWEST, HIGHEST = 0.5, 99.5
"""Percentiles of a picture's own numbers that become black and white where nothing else says which do."""

SHORT_TABLE = 1 << 12
BLOCK = 1 << 16
MOST_SAMPLED = 1 << 20


def shown(numbers: Numbers, show: Show) -> Greys:
    """The greys of `numbers`: `show` is asked once for each number that may occur, or for each of fewer pixels.

    Args:
        numbers: (rows, columns) of any kind.
        show: the greys of some numbers, in their shape, or with one axis more for colours. Its second argument counts
            how often each of them occurs; without it, once.
    """
    native = np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("="))
    if native.dtype.kind not in "iu" or native.itemsize > 2:
        return show(native, None)
    values = np.arange(int(native.min()), int(native.max()) + 1)
    if len(values) > max(SHORT_TABLE, native.size):
        return show(native, None)
    places = native.view(f"u{native.itemsize}").reshape(-1)
    entries = values & (1 << 8 * native.itemsize) - 1

    def count() -> npt.NDArray[np.int64]:
        counts = np.zeros(1 << 8 * native.itemsize, np.int64)
        for start in range(0, len(places), BLOCK):
            counts += np.bincount(places[start : start + BLOCK], minlength=len(counts))
        return np.take(counts, entries)

    greys = show(values, count)
    table = np.zeros((1 << 8 * native.itemsize, *greys.shape[1:]), np.uint8)
    table[entries] = greys
    out = np.empty((len(places), *greys.shape[1:]), np.uint8)
    for start in range(0, len(places), BLOCK):  # blocks that stay in the processor's cache are three times as fast
        stop = start + BLOCK
        np.take(table, places[start:stop], axis=0, out=out[start:stop], mode="clip")
    return out.reshape(*native.shape, *greys.shape[1:])


def stretched(numbers: Numbers, count: Count | None = None, without: npt.NDArray[np.bool_] | None = None) -> Greys:
    """Greys of numbers between the percentiles `LOWEST` and `HIGHEST`; what is no finite number becomes black.

    Args:
        numbers: of any kind and shape.
        count: how often each occurs, once without.
        without: which numbers stand for no pixel, and have no say in what is black and white.
    """
    values = numbers.astype(np.float64)
    counts = np.isfinite(values).astype(np.int64) if count is None else count()
    if without is not None and counts[~without].any():
        counts[without] = 0
    known, counts = values[counts > 0], counts[counts > 0]
    if not known.size:
        return np.zeros(values.shape, np.uint8)
    low, high = _percentiles(known, counts)
    if low == high:  # all but a few pixels are alike: those few are what there is to see
        low, high = float(known.min()), float(known.max())
    return scaled((np.nan_to_num(values, nan=low) - low) / max(high - low, np.finfo(np.float64).tiny))


def scaled(parts: npt.NDArray[np.float64]) -> Greys:
    """Greys of numbers of which 0 and less are black, 1 and more white."""
    return np.rint(np.clip(parts, 0, 1) * 255).astype(np.uint8)


def _percentiles(values: Numbers, counts: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The numbers at `LOWEST` and `HIGHEST` when all are put in order; of very many, only some are looked at."""
    step = 1 + len(values) // MOST_SAMPLED
    values, counts = values[::step], counts[::step]
    order = np.argsort(values, kind="stable")
    upto = np.cumsum(counts[order])
    ranks = np.floor(np.array((LOWEST, HIGHEST)) / 100 * (upto[-1] - 1))
    low, high = values[order[np.searchsorted(upto, ranks, side="right")]]
    return float(low), float(high)
