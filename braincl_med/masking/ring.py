"""Numbers as integers modulo 2^32 or 2^64, so that masked ones add up exactly.

    q = round(x · 2^f), |q| < 2^m,     Σ over at most H hospitals: |Σ q| < H · 2^m ≤ 2^(bits − 1)

so a sum is the signed reading of the sum of the residues, whatever masks were added and taken off again. The fraction
f is what the head-room leaves: f = bits − 1 − ⌈log2 H⌉ − magnitude, with |x| < 2^magnitude by clipping.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

Bits = Literal[32, 64]
Vectors = dict[Bits, npt.NDArray[np.unsignedinteger]]
WIDTHS: tuple[Bits, ...] = (32, 64)
DOUBLE = 53
"""Bits of a double's significand: integers beyond are even."""


def empty(bits: Bits, length: int) -> npt.NDArray[np.unsignedinteger]:
    """A vector of zeros modulo 2^bits."""
    return np.zeros(length, np.uint32 if bits == 32 else np.uint64)


@dataclass(frozen=True)
class Field:
    """Some numbers of one kind.

    Attributes:
        name: unique in its layout.
        shape: of the numbers.
        magnitude: they lie between ±2^magnitude; what lies beyond is clipped.
        bits: of the ring.
        whole: they are integers, which need no fraction.
    """

    name: str
    shape: tuple[int, ...]
    magnitude: int
    bits: Bits = 64
    whole: bool = False

    @property
    def size(self) -> int:
        """How many numbers."""
        return int(np.prod(self.shape, dtype=np.int64))

    def fraction(self, hospitals: int) -> int:
        """Binary digits after the point (before it, where negative) that leave head-room for a sum.

        Raises:
            ValueError: integers of this magnitude have none.
        """
        room = self.bits - 1 - (hospitals - 1).bit_length() - self.magnitude
        if not self.whole:
            return room
        if room < 0:
            raise ValueError(f"'{self.name}' of {hospitals} hospitals does not fit into {self.bits} bits")
        return 0


@dataclass(frozen=True)
class Layout:
    """Which numbers lie where; the same at every hospital and at the server, by what all of them know.

    Attributes:
        fields: in order.
        hospitals: the most that are added up.
    """

    fields: tuple[Field, ...]
    hospitals: int

    @cached_property
    def lengths(self) -> dict[Bits, int]:
        """Numbers in each ring that has any."""
        lengths = {bits: sum(f.size for f in self.fields if f.bits == bits) for bits in WIDTHS}
        return {bits: length for bits, length in lengths.items() if length}

    def encode(self, values: Iterable[tuple[str, npt.NDArray[np.floating | np.integer]]]) -> tuple[Vectors, int]:
        """Residues of numbers by field, in any order; a field that is not told of is zero.

        Returns:
            The vectors, and how many numbers were clipped.

        Raises:
            ValueError: a number is not finite, or a field is unknown or has another shape.
        """
        vectors = {bits: empty(bits, length) for bits, length in self.lengths.items()}
        places, clipped = self._places, 0
        for name, numbers in values:
            if name not in places or numbers.shape != places[name][0].shape:
                raise ValueError(f"no field '{name}' of shape {numbers.shape}")
            field, start = places[name]
            fraction = field.fraction(self.hospitals)
            limit = 2.0 ** (field.magnitude + fraction)
            most = limit - max(1.0, limit * 2.0**-DOUBLE)
            scaled = np.multiply(numbers, 2.0**fraction, dtype=np.float64).ravel()
            low, high = scaled.min(initial=0), scaled.max(initial=0)
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ValueError(f"'{name}' holds numbers that are not finite")
            if low < -most or high > most:
                clipped += int((np.abs(scaled) > most).sum())
                np.clip(scaled, -most, most, out=scaled)
            target = vectors[field.bits]
            target[start : start + field.size] = np.rint(scaled, out=scaled).astype(np.int64)
        return vectors, clipped

    def decode(self, vectors: Mapping[Bits, npt.NDArray[np.unsignedinteger]]) -> dict[str, npt.NDArray[np.float64]]:
        """The numbers, or their sum over hospitals, by field; integers below 2^53 are exact."""
        found = {}
        for name, (field, start) in self._places.items():
            part = vectors[field.bits][start : start + field.size]
            signed = part.view(np.int32 if field.bits == 32 else np.int64).astype(np.float64)
            found[name] = np.ldexp(signed, -field.fraction(self.hospitals)).reshape(field.shape)
        return found

    @cached_property
    def _places(self) -> dict[str, tuple[Field, int]]:
        """Every field by name, and where it begins in its ring's vector."""
        places: dict[str, tuple[Field, int]] = {}
        ends = dict.fromkeys(WIDTHS, 0)
        for field in self.fields:
            places[field.name] = field, ends[field.bits]
            ends[field.bits] += field.size
        return places
