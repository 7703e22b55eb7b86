"""Arithmetic coding of integer cues under integer frequency tables.

The tables are made once from the histogram of a task's real cues and stored with them; the coder's model is built
from the stored integers alone, because a change of one unit in the last place of a probability changes the coded
words. The order within a shard is channel by channel, each channel's symbols record by record.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import constriction
import numpy as np
import numpy.typing as npt

from braincl_med.foundation.errors import VaultError

Cues = npt.NDArray[np.int16]
Words = npt.NDArray[np.uint32]

LARGEST_FREQUENCY = 255
LARGEST_ALPHABET = 4096
SLACK = 64
"""Bits that a shard may fall short of its symbols' information: the coder holds back its last words."""


@dataclass(frozen=True)
class FrequencyTables:
    """For each of M channels the lowest symbol and the frequencies (1 to 255) of it and the symbols above it.

    Attributes:
        lowest: M lowest symbols.
        frequencies: M arrays of uint8, one frequency a symbol, none zero.
    """

    lowest: tuple[int, ...]
    frequencies: tuple[npt.NDArray[np.uint8], ...]

    @staticmethod
    def of(cues: Cues) -> "FrequencyTables":
        """Tables refitted to the histogram of cues (n, M, rows, columns), n ≥ 1.

        Every symbol between a channel's lowest and highest keeps a frequency of at least 1.

        Raises:
            VaultError: a channel's symbols span more than 4,096 values.
        """
        lowest, frequencies = [], []
        for channel in range(cues.shape[1]):
            symbols = cues[:, channel].astype(np.int64).ravel()
            low = int(symbols.min())
            counts = np.bincount(symbols - low)
            if len(counts) > LARGEST_ALPHABET:
                raise VaultError(
                    f"cue channel {channel} spans {len(counts)} symbols, at most {LARGEST_ALPHABET} are coded: "
                    "use a larger memory-step"
                )
            scaled = np.maximum(1, np.rint(counts * (LARGEST_FREQUENCY / counts.max()))).astype(np.uint8)
            lowest.append(low)
            frequencies.append(scaled)
        return FrequencyTables(tuple(lowest), tuple(frequencies))

    def entropy(self, cues: Cues) -> float:
        """The bits that cues (n, M, rows, columns) take under these tables, by Shannon's bound."""
        bits = 0.0
        for channel, (low, table) in enumerate(zip(self.lowest, self.frequencies, strict=True)):
            counts = np.bincount(cues[:, channel].astype(np.int64).ravel() - low, minlength=len(table))
            bits -= float((counts * np.log2(table / table.sum())).sum())
        return bits

    def least_bits(self) -> float:
        """The fewest bits that one cell of a cue can take: every channel's likeliest symbol."""
        return -sum(math.log2(table.max() / table.sum(dtype=np.int64)) for table in self.frequencies)

    def to_bytes(self) -> bytes:
        """Little-endian, channel by channel: lowest symbol (i16), size of the alphabet (u16), frequencies (u8)."""
        parts = [
            np.array([low], "<i2").tobytes() + np.array([len(table)], "<u2").tobytes() + table.tobytes()
            for low, table in zip(self.lowest, self.frequencies, strict=True)
        ]
        return b"".join(parts)

    @staticmethod
    def from_bytes(content: bytes, channels: int) -> "FrequencyTables":
        """The inverse of `to_bytes` for `channels` channels; what does not fit exactly is refused.

        Raises:
            VaultError: the bytes end early or late, a frequency is zero, an alphabet empty or too large.
        """
        lowest, frequencies, position = [], [], 0
        for channel in range(channels):
            if position + 4 > len(content):
                raise VaultError(f"the tables end before channel {channel} of {channels}")
            low = int(np.frombuffer(content, "<i2", 1, position)[0])
            size = int(np.frombuffer(content, "<u2", 1, position + 2)[0])
            table = np.frombuffer(content[position + 4 : position + 4 + size], np.uint8)
            if not 1 <= size <= LARGEST_ALPHABET or len(table) < size or not table.all() or low + size > 2**15:
                raise VaultError(f"the table of channel {channel} is damaged: lowest symbol {low}, {size} symbols")
            lowest.append(low)
            frequencies.append(table)
            position += 4 + size
        if position != len(content):
            raise VaultError(f"{len(content) - position} bytes stand behind the tables of {channels} channels")
        return FrequencyTables(tuple(lowest), tuple(frequencies))


def _model(table: npt.NDArray[np.uint8]) -> "constriction.stream.model.Categorical":
    weights = table.astype(np.float64)
    return constriction.stream.model.Categorical(weights / weights.sum(), perfect=False)


def encode(cues: Cues, tables: FrequencyTables) -> Words:
    """Range-code cues (n, M, rows, columns) into one shard of 32-bit words.

    Raises:
        VaultError: a symbol lies outside its channel's table.
    """
    coder = constriction.stream.queue.RangeEncoder()
    by_channel = cues.transpose(1, 0, 2, 3).astype(np.int32, order="C").reshape(cues.shape[1], -1)
    for channel, (low, table) in enumerate(zip(tables.lowest, tables.frequencies, strict=True)):
        symbols = by_channel[channel]
        symbols -= low
        # Read as unsigned, what lies below the table is as far out of it as what lies above.
        if len(symbols) and symbols.view(np.uint32).max() >= len(table):
            raise VaultError(
                f"cue channel {channel} holds symbols from {symbols.min() + low} to {symbols.max() + low}, "
                f"its table covers {low} to {low + len(table) - 1}"
            )
        # An alphabet of one symbol takes no bits, and the coder wants at least two.
        if len(table) > 1 and len(symbols):
            coder.encode(symbols, _model(table))
    words: Words = coder.get_compressed()
    return words


def decode(words: Words, tables: FrequencyTables, records: int, shape: tuple[int, int, int]) -> Cues:
    """The cues (records, M, rows, columns) of one shard.

    Raises:
        VaultError: the words do not decode to that many records.
    """
    _, rows, columns = shape
    # Even its likeliest symbols take some bits, so few words cannot ask for much memory and time.
    if records * rows * columns * tables.least_bits() > 32 * len(words) + SLACK:
        raise VaultError(f"a shard of {len(words)} words is too short for {records:,} records")
    cues = np.empty((records, *shape), np.int16)
    coder = constriction.stream.queue.RangeDecoder(words)
    try:
        for channel, (low, table) in enumerate(zip(tables.lowest, tables.frequencies, strict=True)):
            if len(table) == 1:
                cues[:, channel] = low
            elif records:
                symbols = coder.decode(_model(table), records * rows * columns)
                cues[:, channel] = (symbols + low).reshape(records, rows, columns)
    except AssertionError as error:
        raise VaultError(f"a shard of {len(words)} words does not decode to {records} records") from error
    if not coder.maybe_exhausted():
        raise VaultError(f"a shard of {len(words)} words holds more than its {records} records")
    return cues


def shard_slices(sizes: list[int]) -> list[slice]:
    """Consecutive slices of the given lengths.

    >>> shard_slices([2, 3])
    [slice(0, 2, None), slice(2, 5, None)]
    """
    ends = np.cumsum([0, *sizes]).tolist()
    return [slice(a, b) for a, b in pairwise(ends)]
