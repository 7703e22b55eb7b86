"""A basis that no scan taught: the discrete cosine transform of blocks, in brightness and two colour differences.

The completion network then follows from the shape, the quantiser step and which of the transform's coefficients are
kept, and tells nothing of the scans but that coefficients that are zero for all of them are left out. So the recall
of a scan depends on that scan alone, erasing a record is exact, and no network takes bytes beside the cues.

    bytes of the network:   step (f32) · one bit a candidate, in order of frequency
"""

import struct
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from braincl_med.foundation.arrays import Images
from braincl_med.foundation.errors import VaultError
from braincl_med.memory.networks import FIXED_BASIS, MemoryShape, PatternCompletion, PatternSeparation
from braincl_med.memory.training import as_tensor
from braincl_med.settings.memory import LinearMemory

STEP = struct.Struct("<f")
GREY = 0.5
"""The mean of all blocks."""
COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
"""Orthonormal: brightness, red against blue, green against both."""
COARSER = 1.5
"""Colour differences come as late as brightness at so many times their frequency: scans vary less in them."""
BATCH = 256


@lru_cache(maxsize=4)
def candidates(block: tuple[int, int]) -> npt.NDArray[np.float32]:
    """(d, d) orthonormal rows, each a block (3, height, width) of d numbers, lowest frequencies first."""
    height, width = block
    rows, columns = _cosines(height), _cosines(width)
    basis = np.einsum("kc,ih,jw->kijchw", COLOURS, rows, columns).reshape(3 * height * width, -1)
    kind, row, column = (axis.ravel() for axis in np.indices((3, height, width)))
    frequency = np.hypot(row, column) * np.where(kind > 0, COARSER, 1) + (kind > 0)
    ordered: npt.NDArray[np.float32] = basis[np.lexsort((column, row, kind, frequency))].astype(np.float32)
    return ordered


def _cosines(size: int) -> npt.NDArray[np.float64]:
    """(size, size) the orthonormal DCT-II, one frequency a row."""
    frequency, place = np.indices((size, size))
    waves: npt.NDArray[np.float64] = np.cos(np.pi * frequency * (2 * place + 1) / (2 * size)) * np.sqrt(2 / size)
    waves[0] /= np.sqrt(2)
    return waves


def fit_fixed(images: Images, config: LinearMemory) -> tuple[PatternSeparation, PatternCompletion, bytes]:
    """Separation, completion and its bytes for scans (n, height, width, 3), at least one.

    Args:
        images: say which of the first `components` candidates are zero for all of them, and nothing else.
        config: the quantiser step, the number of candidates and the block.
    """
    whole = _shape(images.shape[1], images.shape[2], config, config.components)
    separation = _separation(whole, np.ones(whole.cue_channels, bool), config.step)
    kept = np.zeros(whole.cue_channels, bool)
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            cues = separation(as_tensor(images[start : start + BATCH], 3)).round()
            kept |= (cues != 0).any(0).flatten(1).any(1).numpy()
    kept[0] = True
    shape = _shape(images.shape[1], images.shape[2], config, int(kept.sum()))
    stored = STEP.pack(config.step) + np.packbits(kept).tobytes()
    return _separation(shape, kept, config.step), unpack_fixed(stored, shape), stored


def _shape(height: int, width: int, config: LinearMemory, channels: int) -> MemoryShape:
    shape = MemoryShape(3, height, width, 1, 0, config.down_samplings, True, basis=FIXED_BASIS)
    limit = 3 * shape.block[0] * shape.block[1]
    return MemoryShape(3, height, width, min(channels, limit), 0, config.down_samplings, True, basis=FIXED_BASIS)


@torch.no_grad()
def _separation(shape: MemoryShape, kept: npt.NDArray[np.bool_], step: float) -> PatternSeparation:
    separation = PatternSeparation(shape)
    rows = torch.from_numpy(candidates(shape.block)[: len(kept)][kept])
    assert separation.analysis is not None
    assert separation.analysis.bias is not None
    separation.analysis.weight.copy_((rows / step).reshape(separation.analysis.weight.shape))
    separation.analysis.bias.copy_(-GREY * rows.sum(1) / step)
    return separation.eval()


@torch.no_grad()
def unpack_fixed(content: bytes, shape: MemoryShape) -> PatternCompletion:
    """The completion network of a fixed basis.

    Raises:
        VaultError: the bytes are not those of such a network of this shape.
    """
    limit = 3 * shape.block[0] * shape.block[1]
    bits = np.unpackbits(np.frombuffer(content, np.uint8, offset=min(len(content), STEP.size)))
    step = STEP.unpack_from(content)[0] if len(content) >= STEP.size else 0.0
    kept = bits[:limit].astype(bool)
    if not 0 < step < 1e3 or len(bits) >= limit + 8 or bits[limit:].any() or int(kept.sum()) != shape.cue_channels:
        raise VaultError(
            f"the fixed basis keeps {int(kept.sum())} of {limit} coefficients at step {step:.3g}, the header has "
            f"{shape.cue_channels} cue channels: the file was damaged"
        )
    completion = PatternCompletion(shape)
    rows = torch.from_numpy(candidates(shape.block)[: len(kept)][kept])
    assert completion.synthesis is not None
    completion.synthesis.weight.copy_((rows * step).reshape(completion.synthesis.weight.shape))
    completion.mean.fill_(GREY)
    return completion.eval()
