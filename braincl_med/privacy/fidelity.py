"""How much of a scan its recall gives away, for an auditor who may see the raw scans."""

import math
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from braincl_med.federation.checkpoint import folder_of, load_checkpoint
from braincl_med.foundation.errors import ConfigError, DataError, VaultError
from braincl_med.memory.module import complete
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import changed_settings
from braincl_med.streams.availability import resolve
from braincl_med.streams.named import build_registry
from braincl_med.streams.source import ScanSource
from braincl_med.streams.tasks import Scans
from braincl_med.vault.cuefile import CueFile, Shard

Images = npt.NDArray[np.uint8]

OF_EVALUATION = ("stream-evaluate", "stream-test-per-class", "stream-unknown")
"""Settings of the stream that decide about no training scan."""
HIGHEST_PSNR = 100.0
"""Decibels of a recall that equals its scan, whose PSNR would be infinite."""
BLOCK = 256
"""Scans whose distances are computed at once."""


@dataclass(frozen=True)
class GivenScans:
    """Raw scans that an auditor was given.

    Attributes:
        scans: class after class in the order in which they were encoded.
        experiment, hospital: whose they are; empty when the file does not say.
    """

    scans: Scans
    experiment: str = ""
    hospital: str = ""


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


def export_scans(config: ExperimentConfig, site: int, out: Path) -> Scans:
    """Write a simulated hospital's raw training scans of all tasks to a file, for an audit of its vault.

    The file (.npz) holds `images` (n, h, w, 3) uint8, `labels` (n,) int64 class numbers, `task` (n,) int64, and the
    names `experiment` and `hospital`. Its owner alone may read it.

    Raises:
        ConfigError: no such hospital, the file would lie below the state root, or the experiment was learned under
            another configuration.
        DataError: there are no scans to read.
        VaultError: the file cannot be written.
    """
    state = config.state_folder.resolve()
    if out.resolve().is_relative_to(state):
        raise ConfigError(
            f"'{out.name}' would lie below the state root, where no raw scan may be: write it elsewhere"
        )
    count = config.federation.hospitals
    if not 0 <= site < count:
        raise ConfigError(f"there is no site {site}: this experiment has sites 0 to {count - 1}")
    stream, _ = resolve(config.stream, config.data_folder)
    config = config.model_copy(update={"stream": stream})
    checkpoint = load_checkpoint(folder_of(state, config.name))
    if checkpoint is None:
        registry = build_registry(stream, config.seed)
    else:
        registry = checkpoint.registry
        _check_same(checkpoint.settings, config)
    source = ScanSource(stream, config.data_folder, config.seed, site, count)
    parts = [source.scans(registry, task, "train") for task in range(len(registry.tasks))]
    scans = Scans.join(parts)
    tasks = np.repeat(np.arange(len(parts), dtype=np.int64), [len(p) for p in parts])
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(handle, 0o600)  # a file that was there keeps its mode otherwise
                np.savez_compressed(
                    file,
                    images=scans.images,
                    labels=scans.labels,
                    task=tasks,
                    experiment=np.array(config.name),
                    hospital=np.array(f"site-{site}"),
                )
        except BaseException:
            # Whatever stopped it, no part of the scans may lie about.
            if out.is_file():
                out.resolve().unlink()
            raise
    except OSError as error:
        raise VaultError(
            f"'{out.name}' cannot be written: {os.strerror(error.errno or 0).lower()}; no part of it was kept: "
            f"choose a folder that you may write, with {scans.images.nbytes:,} bytes of space"
        ) from error
    return scans


def _check_same(learned: dict[str, Any], config: ExperimentConfig) -> None:
    """Refuse a configuration that would draw other scans than those that were encoded."""
    changed = [
        change
        for change in changed_settings(learned, config)
        if change.startswith(("seed ", "federation-hospitals ", "stream-")) and not change.startswith(OF_EVALUATION)
    ]
    if changed:
        raise ConfigError(
            f"'{config.name}' was learned with other settings: {'; '.join(changed)}: "
            "its scans are not those that were encoded"
        )


def load_scans(path: Path) -> GivenScans:
    """Read the raw scans that an auditor was given.

    Raises:
        DataError: the file is missing or does not hold `images` (n, h, w, 3) uint8 and `labels` (n,) integers.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            scans = Scans(held["images"], held["labels"].astype(np.int64, casting="same_kind"))
            names = [str(held[key]) if key in held else "" for key in ("experiment", "hospital")]
    except FileNotFoundError:
        raise DataError(f"there is no file '{path.name}'") from None
    except KeyError as error:
        raise DataError(f"'{path.name}' lacks an array that `braincl scans` writes ({error.args[0]})") from None
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error) if isinstance(error, ValueError | TypeError) else type(error).__name__
        raise DataError(f"'{path.name}' is not a file of scans as `braincl scans` writes them ({reason})") from None
    return GivenScans(scans, *names)


def likeness(file: CueFile, given: Scans) -> Likeness:
    """Compare all recalls of a task with the scans that they stand for.

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
        matched = of_class[_matched(shard, len(of_class))]
        recalled = complete(network, file.cues(shard.label))
        _check_error(shard, recalled, originals[matched], len(of_class))
        recalls.append(recalled)
        places.append(matched)
    together, own = np.concatenate(recalls), np.concatenate(places)
    return Likeness(
        psnr(together, originals[own]), ssim(together, originals[own]), nearest_is_own(together, originals, own)
    )


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
