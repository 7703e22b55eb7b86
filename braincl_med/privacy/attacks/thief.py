"""What a thief makes of stolen cues: with their own completion network, with another one, or by known pairs.

A cue is a row of small integers, the coordinates of a scan along directions that the completion network holds. Who
has no network may take another: another hospital's for the same task, or one fitted to public scans of like kind. Its
directions are nearly the same ones, in another order and with other signs. The order follows from how much the cues
vary along each. The signs follow from third moments: E[zᵢ zⱼ zₖ] of the stolen cues is that of the thief's own, times
the three signs. So images can come back without a single known pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from braincl_med.evaluation.intervals import wilson
from braincl_med.foundation.arrays import Images, Positions
from braincl_med.memory.coding import Cues
from braincl_med.memory.components import blocks_of
from braincl_med.memory.module import complete
from braincl_med.memory.networks import MemoryShape, PatternCompletion
from braincl_med.memory.training import as_tensor
from braincl_med.privacy.fidelity import nearest_is_own, psnr

Values = npt.NDArray[np.float64]

LEADING = 24
"""Channels whose signs are guessed, those that vary most; the others are left out, for little can be seen in them."""
STARTS = 20
"""Random signs from which the search begins."""
RIDGE = 1.0
"""Of the linear guess from known pairs, in squared cue steps."""


@dataclass(frozen=True)
class Decoding:
    """How well images that a thief made match the scans they stand for.

    Attributes:
        how: with what they were made.
        psnr: mean decibels.
        matched: how many are nearer to their own scan than to any other of the task, by mean squared error.
        scans: how many were made.
        chance: the share that a blind guess would match.
    """

    how: str
    psnr: float
    matched: int
    scans: int
    chance: float

    @staticmethod
    def of(how: str, images: Images, originals: Images, own: Positions) -> "Decoding":
        """Compare `images` (n, h, w, 3) with `originals` (m, h, w, 3), of which `own` (n,) are theirs."""
        matched = int(nearest_is_own(images, originals, own).sum())
        return Decoding(how, float(psnr(images, originals[own]).mean()), matched, len(images), 1 / len(originals))

    @staticmethod
    def join(parts: Sequence["Decoding"]) -> "Decoding":
        """All images of `parts`, made in the same way of several tasks."""
        scans = sum(p.scans for p in parts)
        psnr, chance = (sum(getattr(p, of) * p.scans for p in parts) / scans for of in ("psnr", "chance"))
        return Decoding(parts[0].how, psnr, sum(p.matched for p in parts), scans, chance)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share that is matched."""
        return wilson(self.matched, self.scans)

    def as_json(self) -> dict[str, Any]:
        """The figures, as they stand in an audit's report."""
        return {
            "how": self.how,
            "psnr": self.psnr,
            "matched": self.matched / self.scans,
            "interval": list(self.interval),
            "scans": self.scans,
            "chance": self.chance,
        }


@dataclass(frozen=True)
class Borrowed:
    """Another memory of like scans, which the thief has whole: its network, and cues that say how these vary."""

    network: PatternCompletion
    cues: Cues


def refusal(shape: MemoryShape, other: MemoryShape) -> str:
    """Why a network of the shape `other` cannot be used for cues of `shape`; empty if it can."""
    if not shape.linear or not other.linear:
        return "their networks are not linear"
    if (shape.channels, shape.block, shape.grid) != (other.channels, other.block, other.grid):
        return "their scans differ in size or colour"
    return ""


def decode_borrowed(stolen: Cues, shape: MemoryShape, other: Borrowed) -> Images:
    """What another network makes of stolen cues, channels matched by kind and variance, signs left as they are.

    Args:
        stolen: (n, M, rows, columns).
        shape: of their own network, which stands in the header of a cue file.
        other: its shape is not refused by `refusal`.
    """
    theirs, ours = _matched(stolen, shape, other)
    cues = np.zeros((len(stolen), *other.network.shape.cue), np.int16)
    cues[:, theirs] = stolen[:, ours]
    return complete(other.network, cues)


def decode_by_moments(stolen: Cues, shape: MemoryShape, other: Borrowed, seed: int) -> list[Images]:
    """As `decode_borrowed`, with the signs that fit third moments best.

    Of scans that look alike mirrored the moments cannot tell an image from its mirror image, so all of them come
    back; the thief sees which one is right, or tries all.

    Returns:
        The images (n, h, w, 3), and where height and width allow their seven mirror images and turns.
    """
    theirs, ours = _matched(stolen, shape, other)
    ranked = np.argsort(-_rows(stolen)[:, ours].var(0), kind="stable")[:LEADING]
    theirs, ours = theirs[ranked], ours[ranked]
    signs = fitting_signs(_rows(stolen)[:, ours], _rows(other.cues)[:, theirs], seed)
    cues = np.zeros((len(stolen), *other.network.shape.cue), np.int16)
    cues[:, theirs] = stolen[:, ours] * signs.astype(np.int16)[:, None, None]
    images = complete(other.network, cues)
    flips = [images, images[:, ::-1], images[:, :, ::-1], images[:, ::-1, ::-1]]
    square = images.shape[1] == images.shape[2]
    return [*flips, *(flip.swapaxes(1, 2) for flip in flips)] if square else flips


def decode_by_pairs(stolen: Cues, scans: Images, known: Positions, shape: MemoryShape) -> Images:
    """A linear guess of the network from known pairs of cue and scan (ridge regression), used on all cues.

    Args:
        stolen: (n, M, rows, columns).
        scans: (k, height, width, 3) of the `known` cues, k ≥ 1.
        known: (k,) positions among the cues.
        shape: of the network.
    """
    pixels = blocks_of(as_tensor(scans, shape.channels), shape).numpy().astype(np.float64)
    cues = _rows(stolen[known])
    centre, mean = cues.mean(0), pixels.mean(0)
    gram = (cues - centre) @ (cues - centre).T + RIDGE * np.eye(len(cues))
    guess = (cues - centre).T @ np.linalg.solve(gram, pixels - mean)
    return _images(mean + (_rows(stolen) - centre) @ guess, shape)


def decode_by_both(stolen: Cues, scans: Images, known: Positions, shape: MemoryShape, other: Borrowed) -> Images:
    """What another network makes of stolen cues, signs taken from a few known pairs.

    A known scan's coordinates along the other network's directions have the signs that its stolen cue should have.

    Args:
        stolen, scans, known, shape: as in `decode_by_pairs`.
        other: as in `decode_borrowed`.
    """
    theirs, ours = _matched(stolen, shape, other)
    assert other.network.synthesis is not None
    directions = other.network.synthesis.weight.detach().reshape(len(other.network.synthesis.weight), -1)
    blocks = blocks_of(as_tensor(scans, shape.channels), shape) - other.network.mean.detach().reshape(-1)
    coordinates = np.linalg.lstsq(directions.numpy().T, blocks.numpy().T, rcond=None)[0].T.astype(np.float64)
    agreement = (coordinates[:, theirs] * _rows(stolen[known])[:, ours]).sum(0)
    cues = np.zeros((len(stolen), *other.network.shape.cue), np.int16)
    cues[:, theirs] = stolen[:, ours] * np.sign(agreement).astype(np.int16)[:, None, None]
    return complete(other.network, cues)


def fitting_signs(ours: Values, theirs: Values, seed: int) -> Values:
    """Signs s of channels that maximise Σ Tᵢⱼₖ T′ᵢⱼₖ sᵢ sⱼ sₖ for third moments T of `ours` and T′ of `theirs`.

    By coordinate ascent from random signs.

    Args:
        ours: (n, D) cues.
        theirs: (m, D) cues along nearly the same directions, in this order.
        seed: of the starts.
    """
    product = _third_moments(ours) * _third_moments(theirs)
    rng = np.random.default_rng(seed)
    best, highest = np.ones(len(product)), -np.inf
    for _ in range(STARTS):
        signs = rng.choice([-1.0, 1.0], len(product))
        changed = True
        while changed:
            changed = False
            for i in rng.permutation(len(product)):
                rest = signs.copy()
                rest[i] = 0
                # All that depends on sᵢ: it stands once or, where i = j = k, three times.
                right = 1.0 if 3 * rest @ product[i] @ rest + product[i, i, i] > 0 else -1.0
                changed |= bool(right != signs[i])
                signs[i] = right
        value = float(np.einsum("ijk,i,j,k", product, signs, signs, signs, optimize=True))
        if value > highest:
            best, highest = signs, value
    return best


def _third_moments(values: Values) -> Values:
    standard = (values - values.mean(0)) / np.maximum(values.std(0), 1e-9)
    moments: Values = np.einsum("ni,nj,nk->ijk", standard, standard, standard, optimize=True) / len(values)
    return moments


def _matched(stolen: Cues, shape: MemoryShape, other: Borrowed) -> tuple[Positions, Positions]:
    """Channels of the other network, and those of the stolen cues that stand for the same."""
    kinds, their_kinds = shape.kinds or (shape.cue_channels,), other.network.shape.kinds or (other.cues.shape[1],)
    if len(kinds) != len(their_kinds):
        kinds, their_kinds = (stolen.shape[1],), (other.cues.shape[1],)
    ours, theirs = _by_variance(stolen, kinds), _by_variance(other.cues, their_kinds)
    least = [min(len(a), len(b)) for a, b in zip(ours, theirs, strict=True)]
    return (
        np.concatenate([b[:n] for b, n in zip(theirs, least, strict=True)]),
        np.concatenate([a[:n] for a, n in zip(ours, least, strict=True)]),
    )


def _by_variance(cues: Cues, kinds: tuple[int, ...]) -> list[Positions]:
    """The channels of each kind, those that vary most first."""
    variances, edges = _rows(cues).var(0), np.cumsum([0, *kinds])
    return [start + np.argsort(-variances[start:stop], kind="stable") for start, stop in pairwise(edges.tolist())]


def _rows(cues: Cues) -> Values:
    """(n · rows · columns, M) cues, one a block of pixels."""
    rows: Values = cues.transpose(0, 2, 3, 1).reshape(-1, cues.shape[1]).astype(np.float64)
    return rows


def _images(blocks: Values, shape: MemoryShape) -> Images:
    """(n, height, width, 3) scans of (n · rows · columns, C · height · width) blocks: `blocks_of` undone."""
    (height, width), (rows, columns) = shape.block, shape.grid
    columned = torch.from_numpy(blocks).reshape(-1, rows * columns, blocks.shape[1]).transpose(1, 2)
    size = (rows * height, columns * width)
    padded = functional.fold(columned, size, shape.block, stride=shape.block)[..., : shape.height, : shape.width]
    pixels = (padded.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:3], 3)))
