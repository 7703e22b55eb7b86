"""How much of a scan its recall gives away, for an auditor who may see the raw scans."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from braincl_med.foundation.arrays import Images
from braincl_med.foundation.errors import ConfigError, DataError
from braincl_med.memory.module import complete
from braincl_med.streams.tasks import Scans
from braincl_med.vault.cuefile import CueFile, Shard

HIGHEST_PSNR = 100.0
"""Decibels of a recall that equals its scan, whose PSNR would be infinite."""
BLOCK = 256
"""Scans whose distances are computed at once."""


@dataclass(frozen=True)
class Likeness:
    """Recalls compared with their scans.

    Attributes:
        psnr: decibels of each pair.
        ssim: structural similarity of each pair.
        own: whether no other scan of the task is nearer to the recall than its own.
    """

    psnr: npt.NDArray[np.float64]
    ssim: npt.NDArray[np.float64]
    own: npt.NDArray[np.bool_]

    @staticmethod
    def join(parts: Sequence["Likeness"]) -> "Likeness":
        """All pairs of `parts`."""
        return Likeness(
            np.concatenate([p.psnr for p in parts]),
            np.concatenate([p.ssim for p in parts]),
            np.concatenate([p.own for p in parts]),
        )

    def as_json(self) -> dict[str, Any]:
        """The means, as they stand in an audit's report."""
        return {
            "psnr": float(self.psnr.mean()),
            "ssim": float(self.ssim.mean()),
            "re-identified": float(self.own.mean()),
            "scans": len(self.psnr),
        }


@dataclass(frozen=True)
class Pairs:
    """A task's recalls beside the scans that they stand for.

    Attributes:
        recalls: (n, h, w, 3).
        originals: (m, h, w, 3), all that a recall might be taken for.
        own: (n,) each recall's own original.
    """

    recalls: Images
    originals: Images
    own: npt.NDArray[np.int64]

    def likeness(self) -> Likeness:
        """Compare them."""
        mine = self.originals[self.own]
        return Likeness(
            psnr(self.recalls, mine),
            ssim(self.recalls, mine),
            nearest_is_own(self.recalls, self.originals, self.own),
        )


def likeness(file: CueFile, given: Scans) -> Likeness:
    """Compare all recalls of a task with the scans that they stand for; arguments and errors as `matched`."""
    return matched(file, given).likeness()


def matched(file: CueFile, given: Scans) -> Pairs:
    """All recalls of a task with the scans that they stand for.

    Args:
        file: the task's memory.
        given: holds the scans of each of its classes in the order in which they were encoded; other classes are
            left aside.

    Raises:
        DataError: the scans are not those that the memory was made of.
        VaultError: the memory does not decode.
    """
    network = file.network()
    shape = file.shape
    size = given.images.shape[1:3]
    if size != (shape.height, shape.width):
        raise DataError(
            f"the given scans have {size[0]} by {size[1]} pixels, those of task {file.header.task} "
            f"{shape.height} by {shape.width}: the file belongs to another vault"
        )
    originals = given.images[np.isin(given.labels, [s.label for s in file.header.shards])]
    labels = given.labels[np.isin(given.labels, [s.label for s in file.header.shards])]
    recalls, places = [], []
    for shard in file.header.shards:
        of_class = np.flatnonzero(labels == shard.label)
        mine = of_class[_matched(shard, len(of_class))]
        recalled = complete(network, file.cues(shard.label))
        _check_error(shard, recalled, originals[mine], len(of_class))
        recalls.append(recalled)
        places.append(mine)
    return Pairs(np.concatenate(recalls), originals, np.concatenate(places))


def _matched(shard: Shard, given: int) -> npt.NDArray[np.int64]:
    """For each record the place of its scan among the `given` scans of its class."""
    places = np.array(shard.ordinals or range(shard.records), np.int64)
    needed = int(places.max(initial=-1)) + 1
    if given < needed or (not shard.ordinals and given != shard.records):
        raise DataError(
            f"the given file has {given} scans of class {shard.label} ({shard.dataset_label}), the vault's memory "
            f"was made of {'at least ' if shard.ordinals else ''}{needed}: the file belongs to another vault"
        )
    return places


def _check_error(shard: Shard, recalled: Images, originals: Images, given: int) -> None:
    """Refuse scans that the recall error noted when all `given` scans of the class were encoded does not allow."""
    if not shard.records:
        return
    seen = float(np.sqrt(_squared_error(recalled, originals).mean())) / 255
    # Of a class of which records have left only a bound is known: what stays cannot err by more than the whole did.
    highest = shard.recall_error * math.sqrt(given / shard.records)
    tolerance = 0.001 + 0.02 * shard.recall_error
    if seen > highest + tolerance or (not shard.ordinals and seen < highest - tolerance):
        raise DataError(
            f"the recalls of class {shard.label} ({shard.dataset_label}) differ from the given scans by {seen:.3f}, "
            f"when they were encoded by {'at most ' if shard.ordinals else ''}{highest:.3f}: "
            "the file belongs to another vault"
        )


def _squared_error(a: Images, b: Images) -> npt.NDArray[np.float64]:
    """Mean squared error of each pair of (n, h, w, 3), in units of 1/255 squared."""
    return np.array([np.mean((x.astype(np.float64) - y) ** 2) for x, y in zip(a, b, strict=True)])


def psnr(recalls: Images, originals: Images) -> npt.NDArray[np.float64]:
    """Peak signal-to-noise ratio in decibels of each pair of (n, h, w, 3), at most 100."""
    error = np.maximum(_squared_error(recalls, originals), 255**2 / 10 ** (HIGHEST_PSNR / 10))
    ratio: npt.NDArray[np.float64] = 10 * np.log10(255**2 / error)
    return ratio


def ssim(recalls: Images, originals: Images) -> npt.NDArray[np.float64]:
    """Structural similarity of each pair of (n, h, w, 3), scikit-image's with its defaults."""
    try:
        from skimage import metrics
    except ImportError:
        raise ConfigError("comparing scans needs scikit-image: install 'braincl-med[privacy]'") from None
    similarity: Any = metrics.structural_similarity
    pairs = zip(recalls, originals, strict=True)
    return np.array([similarity(a, b, channel_axis=-1, data_range=255) for a, b in pairs], np.float64)


def nearest_is_own(recalls: Images, originals: Images, own: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether no original is nearer to a recall, by mean squared error, than its own.

    Args:
        recalls: (n, h, w, 3).
        originals: (m, h, w, 3), all that a recall might be taken for.
        own: (n,) each recall's own original. Among equal originals any counts.
    """
    distances = np.full((len(recalls), 2), np.inf)
    for row in range(0, len(recalls), BLOCK):
        block = slice(row, row + BLOCK)
        # Integers below 2^53: the distances are exact.
        left = recalls[block].reshape(len(recalls[block]), -1).astype(np.float64)
        for column in range(0, len(originals), BLOCK):
            right = originals[column : column + BLOCK]
            right = right.reshape(len(right), -1).astype(np.float64)
            squared = (left**2).sum(1)[:, None] - 2 * left @ right.T + (right**2).sum(1)
            distances[block, 0] = np.minimum(distances[block, 0], squared.min(1))
            inside = (own[block] >= column) & (own[block] < column + BLOCK)
            mine = np.flatnonzero(inside)
            distances[row + mine, 1] = squared[mine, own[block][mine] - column]
    nearest: npt.NDArray[np.bool_] = distances[:, 1] <= distances[:, 0]
    return nearest
