"""What all renderers draw with: random numbers a scan, coordinates, soft edges and colours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.floating[Any]]
"""Values over scans and pixels, (n, size, size) or a shape that broadcasts to it, or with 3 colours at the end."""

NUMBERS = 64
FIELDS = 4
CELLS = 28
"""Random numbers, noise fields and noise values a side that each scan may use."""


class Canvas:
    """The random numbers of n scans, and coordinates from -1 (left, top) to 1 (right, bottom).

    Every scan has numbers of its own, so it looks the same whichever others are drawn beside it, and nearly
    the same at every size.

    Attributes:
        classes: (n, 1, 1) the label of each scan.
        size: pixels a side.
        u, v: (1, 1, size) and (1, size, 1), to the right and downwards.
    """

    def __init__(self, labels: npt.NDArray[np.int64], seeds: Sequence[int], size: int) -> None:
        self.classes = labels[:, None, None]
        self.size = size
        axis = ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)
        self.u, self.v = axis[None, None, :], axis[None, :, None]
        numbers = np.empty((len(seeds), NUMBERS), np.float32)
        self._noise = np.empty((len(seeds), FIELDS, CELLS, CELLS), np.float32)
        for i, seed in enumerate(seeds):
            generator = np.random.default_rng(seed)
            generator.random(out=numbers[i], dtype=np.float32)
            generator.standard_normal(out=self._noise[i], dtype=np.float32)
        self._numbers = iter(numbers.T)

    def dice(self, low: float = 0, high: float = 1) -> Field:
        """The next random number of each scan, (n, 1, 1), uniform between `low` and `high`."""
        rolled: Field = np.float32(low) + np.float32(high - low) * next(self._numbers)[:, None, None]
        return rolled

    def noise(self, field: int, cells: int = CELLS) -> Field:
        """Noise (n, size, size) of about unit variance at `cells` points a side, smooth between them."""
        between = _interpolation(cells, self.size)
        smooth: Field = between @ self._noise[:, field, :cells, :cells] @ between.T
        return smooth

    def placed(self, x: Field, y: Field, angle: Field, scale: Field) -> tuple[Field, Field]:
        """Coordinates (n, size, size) about (x, y), turned by `angle` (radians), in units of `scale`."""
        right, down = (self.u - x) / scale, (self.v - y) / scale
        cos, sin = np.cos(angle), np.sin(angle)
        return right * cos + down * sin, down * cos - right * sin

    def where(self, *choices: Field | float) -> Field:
        """For each scan the choice of its class."""
        chosen: Field = np.choose(self.classes, [np.asarray(c, np.float32) for c in choices])
        return chosen


@lru_cache(maxsize=64)
def _interpolation(cells: int, size: int) -> Field:
    """The matrix (size, cells) that draws straight lines between `cells` values."""
    place = np.linspace(0, cells - 1, size) if size != cells else np.arange(cells, dtype=float)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells)[None]))
    matrix: Field = weights.astype(np.float32)
    return matrix


def soft(distance: Field, width: float | Field) -> Field:
    """1 inside (negative distance), 0 outside, with a border about `width` wide."""
    inside: Field = np.clip(0.5 - distance / width, 0, 1)
    return inside * inside * (3 - 2 * inside)


def blob(x: Field, y: Field, radius: float | Field) -> Field:
    """A bell of height 1 about the origin of coordinates x, y."""
    bell: Field = np.exp(-(x * x + y * y) / (radius * radius))
    return bell


def tinted(red: float, green: float, blue: float, change: Field | float = 0) -> Field:
    """A colour (…, 3); `change` (n, 1, 1) is added to all its parts."""
    colour: Field = np.asarray([red, green, blue], np.float32) + np.asarray(change, np.float32)[..., None]
    return colour


def painted(image: Field, colour: Field, mask: Field) -> Field:
    """`image` (n, size, size, 3) with `colour` over it where `mask` is 1."""
    cover = mask[..., None]
    over: Field = image + (colour - image) * cover
    return over


def grey(values: Field) -> Field:
    """Three equal channels."""
    return np.repeat(values[..., None], 3, axis=-1)


@dataclass(frozen=True)
class Modality:
    """One synthetic data set.

    Attributes:
        title: what stands before its class names.
        class_names: in the order of the labels.
        render: draws a canvas as (n, size, size, 3) with values from 0 to 1 (what lies outside is cut off).
    """

    title: str
    class_names: tuple[str, ...]
    render: Callable[[Canvas], Field]
