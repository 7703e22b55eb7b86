"""Completion networks that are small on disk: weights are rounded as coarsely as they can bear and entropy-coded.

What a weight is worth follows from what its rounding does to the recalls. A change of a weight by d moves the task's
recalls by h d² (sum of squares over all pixels), h being its sensitivity, so rounding it with a step

    δ = t / √h

costs every weight t² / 12. With t equal to the quantiser step Δ of the cues (in pixels), a bit spent on a weight and
a bit spent on a cue element lower the error alike, which is the optimum of rate and distortion. Kernels of the linear
path are transformed by an orthonormal DCT first: principal components are smooth, and few frequencies tell them.
Where the scans look alike mirrored, most of these are zero and not stored at all (`memory.symmetry`).

Rounded weights are coded in groups (eight rows, one band of frequencies) under integer tables of two parameters, one
byte a group; steps take one byte a row; what has one number a channel (biases) is kept in half precision.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from braincl_med.foundation.errors import VaultError
from braincl_med.memory.networks import MemoryShape, PatternCompletion
from braincl_med.memory.symmetry import TRANSPOSED, from_spectrum, places, spectrum

ROWS = 8
"""Rows of a tensor that share a table."""
BAND_EDGES = np.array([1.5, 3, 4.5, 6, 8, 10, 13, 17, 22, 30])
"""Frequencies (radius, in half-cycles over the kernel) at which bands end."""
DEAD_ZONE = 0.6
"""Weights are rounded away from zero only beyond this share of a step: it costs little error and saves bits."""
STEPS_AN_OCTAVE = 8
LARGEST_WEIGHT = 2**12 - 1
EMPTY = 255
"""The table of a group of zeros, which takes no bits."""
ZERO_SHARES = tuple(100 * h for h in (13, 40, 80, 130, 190, 260, 330, 400, 460, 510, 550, 585, 610, 630, 645, 652))
"""Of 65,536: the frequency of zero, by the upper half of a table's byte."""
RATIOS = (8, 24, 40, 58, 78, 98, 118, 138, 158, 178, 196, 212, 226, 238, 247, 253)
"""Of 256: how much rarer each larger magnitude is than the one before, by the lower half of a table's byte."""
Integers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class CodedTensor:
    """A rounded tensor with at least two dimensions.

    Attributes:
        steps: (rows,) uint8; a row's step is 2^(−steps / 8).
        integers: (rows, …) int32, in the frequency domain for the linear path.
    """

    steps: npt.NDArray[np.uint8]
    integers: Integers

    @staticmethod
    def of(
        name: str, tensor: Tensor, sensitivities: npt.NDArray[np.float64], step: float, kinds: tuple[int, ...] = ()
    ) -> "CodedTensor":
        """Round `tensor` row by row.

        Args:
            name: of the tensor in the network.
            tensor: two to four dimensions.
            sensitivities: (rows,) h, the mean over the row's weights.
            step: t, in pixels.
            kinds: of the network's shape.
        """
        values = _rows(tensor.detach().numpy().astype(np.float64))
        if _is_linear(name):
            values = np.where(_stored(name, values.shape, kinds), spectrum(values, len(kinds) or 1), 0)
            first, second = _pairs(name, kinds)
            # One stored row serves both of a transposed pair.
            values[second] = values[first].swapaxes(-1, -2)
            sensitivities = sensitivities.copy()
            sensitivities[first] = sensitivities[second] = sensitivities[first] + sensitivities[second]
        wanted = step / np.sqrt(np.maximum(sensitivities, 1e-12))
        # A row that nothing depends on must still fit the integers.
        wanted = np.maximum(wanted, np.abs(values).reshape(len(values), -1).max(1) / LARGEST_WEIGHT)
        steps = np.clip(np.floor(-np.log2(wanted) * STEPS_AN_OCTAVE), 0, 255).astype(np.uint8)
        scaled = values / _sizes(steps, values.ndim)
        integers = np.sign(scaled) * np.floor(np.abs(scaled) + 1 - DEAD_ZONE)
        return CodedTensor(steps, np.clip(integers, -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int32))

    def tensor(self, name: str, shape: torch.Size, kinds: tuple[int, ...] = ()) -> Tensor:
        """The rounded tensor of that shape in single precision; `kinds` as in the network's shape."""
        values = self.integers * _sizes(self.steps, self.integers.ndim)
        if _is_linear(name):
            values = from_spectrum(values, len(kinds) or 1)
        return torch.from_numpy(values.astype(np.float32).reshape(tuple(shape)))


@torch.enable_grad()
def sensitivities(
    completion: PatternCompletion, cues: Tensor, records: int, seed: int, probes: int = 4
) -> dict[str, npt.NDArray[np.float64]]:
    """H of every tensor of two or more dimensions, row by row.

    The diagonal of JᵀJ, J being the derivative of the recalls by the weights, is estimated scan by scan from random
    signs v (Hutchinson): E[(Jᵀv)²] is that diagonal.

    Args:
        completion: the network.
        cues: (n, M, rows, columns) integer cues to estimate on.
        records: of the task; the sum over `cues` is scaled up to as many.
        seed: of the signs.
        probes: sign vectors a scan.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = {n: p for n, p in completion.named_parameters() if _is_coded(p)}
    sums = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for cue in torch.split(cues, 1):
        for _ in range(probes):
            recall = completion(cue)
            signs = torch.randint(0, 2, recall.shape, generator=generator) * 2.0 - 1
            for name, gradient in zip(
                parameters, torch.autograd.grad((recall * signs).sum(), list(parameters.values())), strict=True
            ):
                sums[name] += gradient**2
    scale = records / max(1, len(cues)) / probes
    by_row = {name: _rows(total.numpy().astype(np.float64)) for name, total in sums.items()}
    return {name: rows.reshape(len(rows), -1).mean(1) * scale for name, rows in by_row.items()}


def round_weights(
    completion: PatternCompletion, worth: Mapping[str, npt.NDArray[np.float64]], step: float
) -> dict[str, CodedTensor]:
    """Every tensor that `worth` names, rounded by its sensitivities there with t = `step` (pixels)."""
    kinds = completion.shape.kinds
    return {name: CodedTensor.of(name, completion.get_parameter(name), h, step, kinds) for name, h in worth.items()}


def pack(completion: PatternCompletion, coded: Mapping[str, CodedTensor]) -> bytes:
    """A completion network as bytes: the heads of its tensors in the network's order, then one range-coded stream."""
    heads, coder = [], constriction.stream.queue.RangeEncoder()
    for name, tensor in completion.named_parameters():
        if not _is_coded(tensor):
            heads.append(tensor.detach().half().numpy().astype("<f2").tobytes())
            continue
        rounded = coded[name]
        largest = int(np.abs(rounded.integers).max())
        tables = bytearray()
        for group in _groups(name, rounded.integers.shape, completion.shape.kinds):
            symbols = rounded.integers.reshape(len(rounded.integers), -1)[group].ravel()
            table = _best_table(symbols, largest)
            tables.append(table)
            if table != EMPTY:
                coder.encode(symbols + largest, _model(table, largest))
        heads.append(rounded.steps.tobytes() + largest.to_bytes(2, "little") + bytes(tables))
    stream: npt.NDArray[np.uint32] = coder.get_compressed()
    return b"".join(heads) + stream.astype("<u4").tobytes()


def unpack(content: bytes, shape: MemoryShape) -> tuple[PatternCompletion, dict[str, CodedTensor]]:
    """The completion network of `shape` and its rounded tensors, the inverse of `pack`.

    Raises:
        VaultError: the bytes end early or late, or hold numbers that are not finite.
    """
    completion = PatternCompletion(shape)
    position, heads = 0, {}
    for name, tensor in completion.named_parameters():
        groups = _groups(name, tuple(_rows(tensor.detach().numpy()).shape), shape.kinds) if _is_coded(tensor) else []
        size = len(_rows(tensor.detach().numpy())) + 2 + len(groups) if groups else 2 * tensor.numel()
        if position + size > len(content):
            raise VaultError(f"the completion network ends within '{name}'")
        heads[name] = (content[position : position + size], groups)
        position += size
    if (len(content) - position) % 4:
        raise VaultError(f"the completion network's stream has {len(content) - position} bytes, not whole words")
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(content, "<u4", offset=position).astype(np.uint32))
    state, coded = {}, {}
    for name, tensor in completion.named_parameters():
        head, groups = heads[name]
        if not groups:
            state[name] = torch.from_numpy(np.frombuffer(head, "<f2").astype(np.float32).reshape(tuple(tensor.shape)))
            continue
        integers = np.zeros(_rows(tensor.detach().numpy()).shape, np.int32)
        rows = len(integers)
        largest = int.from_bytes(head[rows : rows + 2], "little")
        flat = integers.reshape(rows, -1)
        for group, table in zip(groups, head[rows + 2 :], strict=True):
            if table != EMPTY:
                if not 0 < largest <= LARGEST_WEIGHT:
                    raise VaultError(f"'{name}' claims weights up to {largest}, expected 1 to {LARGEST_WEIGHT}")
                place = flat[group]
                flat[group] = _decode(coder, table, largest, place.size).reshape(place.shape)
        first, second = _pairs(name, shape.kinds)
        integers[second] = integers[first].swapaxes(-1, -2)
        coded[name] = CodedTensor(np.frombuffer(head[:rows], np.uint8), integers)
        state[name] = coded[name].tensor(name, tensor.shape, shape.kinds)
    if not coder.maybe_exhausted():
        raise VaultError("the completion network's stream holds more than its weights")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise VaultError("the completion network holds numbers that are not finite")
    completion.load_state_dict(state)
    return completion.eval(), coded


def _decode(coder: "constriction.stream.queue.RangeDecoder", table: int, largest: int, count: int) -> Integers:
    try:
        return np.asarray(coder.decode(_model(table, largest), count), np.int32) - largest
    except AssertionError as error:
        raise VaultError("the completion network's stream does not decode to its weights") from error


def _is_coded(tensor: Tensor) -> bool:
    """Whether a tensor is rounded and entropy-coded; what has one number a channel is not."""
    return tensor.ndim > 1


def _is_linear(name: str) -> bool:
    return name in ("synthesis.weight", "mean")


def _rows(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The tensor with its rows first: the mean scan is a single row."""
    return values[None] if values.ndim == 3 else values


def _pairs(name: str, kinds: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows of a tensor that are stored, and those that are the same transposed."""
    if name != "synthesis.weight" or len(kinds) <= TRANSPOSED:
        return slice(0), slice(0)
    rows, pairs = sum(kinds), kinds[TRANSPOSED]
    return slice(rows - 2 * pairs, rows - pairs), slice(rows - pairs, rows)


def _sizes(steps: npt.NDArray[np.uint8], dimensions: int) -> npt.NDArray[np.float64]:
    return (2.0 ** (-steps.astype(np.float64) / STEPS_AN_OCTAVE)).reshape(-1, *[1] * (dimensions - 1))


def _stored(name: str, shape: tuple[int, ...], kinds: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Which places of a tensor of the linear path (rows, C, height, width) its rows' kinds have."""
    counts = kinds if name == "synthesis.weight" and kinds else (shape[0],)
    stored = np.zeros((shape[0], math.prod(shape[1:])), bool)
    for kind, stop in enumerate(np.cumsum(counts)):
        rows = np.arange(stop - counts[kind], stop)
        stored[np.ix_(rows, places(len(kinds) or 1, kind, (shape[1], shape[2], shape[3])))] = True
    return stored.reshape(shape)


@lru_cache(maxsize=256)
def _bands(name: str, shape: tuple[int, ...], symmetry: int, kind: int) -> tuple[npt.NDArray[np.int64], ...]:
    """The places within a flattened row (C, height, width) of a kind that share a table."""
    if not _is_linear(name):
        return (np.arange(int(np.prod(shape))),)
    channel, row, column = np.indices(shape)
    band = (np.searchsorted(BAND_EDGES, np.hypot(row, column), side="right") + channel * 100).ravel()
    mine = places(symmetry, kind, (shape[0], shape[1], shape[2]))
    return tuple(mine[band[mine] == b] for b in np.unique(band[mine]))


def _groups(name: str, shape: tuple[int, ...], kinds: tuple[int, ...]) -> list[tuple[npt.NDArray[Any], ...]]:
    """Index arrays of the groups of a tensor (rows, places of a row): eight rows of a kind, one band."""
    counts = kinds if name == "synthesis.weight" and kinds else (shape[0],)
    starts = np.cumsum([0, *counts])
    return [
        np.ix_(np.arange(start, min(start + ROWS, starts[kind + 1])), band)
        for kind in range(len(counts))
        if kind != TRANSPOSED
        for start in range(starts[kind], starts[kind + 1], ROWS)
        for band in _bands(name, shape[1:], len(kinds) or 1, kind)
    ]


@lru_cache(maxsize=1024)
def _frequencies(table: int, largest: int) -> npt.NDArray[np.int64]:
    """Integer frequencies of −largest … largest: zero's share, then magnitudes each rarer by the same ratio."""
    zero, ratio = ZERO_SHARES[table >> 4], RATIOS[table & 15]
    side = np.empty(largest, np.int64)
    # In 2^−32 shares and integers alone, so that every machine builds the same table.
    rest = ((65536 - zero) << 15) * (256 - ratio) // 256
    for magnitude in range(largest):
        side[magnitude] = max(1, rest >> 16)
        rest = rest * ratio // 256
    return np.concatenate([side[::-1], [zero], side])


@lru_cache(maxsize=1024)
def _model(table: int, largest: int) -> "constriction.stream.model.Categorical":
    weights = _frequencies(table, largest).astype(np.float64)
    return constriction.stream.model.Categorical(weights / weights.sum(), perfect=False)


@lru_cache(maxsize=8)
def _bits(largest: int) -> npt.NDArray[np.float64]:
    """(255, largest + 1): the bits of each magnitude under every table; used to choose one, never to decode."""
    tables = [_frequencies(table, largest) for table in range(EMPTY)]
    return np.stack([-np.log2(t[largest:] / t.sum()) for t in tables])


def _best_table(symbols: Integers, largest: int) -> int:
    """The table that takes the fewest bits for these symbols."""
    if not symbols.any():
        return EMPTY
    return int((_bits(largest) @ np.bincount(np.abs(symbols), minlength=largest + 1)).argmin())
