"""Raw scans that leave a simulated hospital for an auditor, and how the auditor reads them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from braincl_med.federation.checkpoint import folder_of, load_checkpoint
from braincl_med.foundation.arrays import Split
from braincl_med.foundation.errors import ConfigError, DataError, VaultError
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import Change, differences
from braincl_med.streams.availability import resolve
from braincl_med.streams.named import build_registry
from braincl_med.streams.place import Place
from braincl_med.streams.source import ScanSource
from braincl_med.streams.tasks import Scans

OF_EVALUATION = (("stream", "evaluate"), ("stream", "test-per-class"), ("stream", "unknown"))
"""Settings of the stream that decide about no training scan."""


MOST_STRANGERS = 1000
"""Of a class, all hospitals together."""


@dataclass(frozen=True)
class GivenScans:
    """Raw scans that an auditor was given.

    Attributes:
        scans: class after class in the order in which they were encoded.
        experiment, hospital: whose they are; empty when the file does not say.
        strangers: scans of the same classes that were never learned; none when the file holds none.
    """

    scans: Scans
    experiment: str = ""
    hospital: str = ""
    strangers: Scans | None = None


def export_scans(config: ExperimentConfig, site: int, out: Path) -> Scans:
    """Write a simulated hospital's raw training scans of all tasks to a file, for an audit of its vault.

    The file (.npz) holds `images` (n, h, w, 3) uint8, `labels` (n,) int64 class numbers, `task` (n,) int64, the names
    `experiment` and `hospital`, and as `strangers` and `stranger_labels` the hospital's scans for validation and
    tests, which attacks tell apart from those that were learned. Its owner alone may read it.

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
    source = ScanSource(stream, Place.simulated(config, site), config.seed, site, count)
    parts = [source.scans(registry, task, "train") for task in range(len(registry.tasks))]
    scans = Scans.join(parts)
    # Limits of evaluation do not count here: the more strangers there are, the narrower an attack's intervals.
    whole = stream.model_copy(update={"test_per_class": MOST_STRANGERS})
    evaluated = ScanSource(whole, source.place, config.seed, site, count)
    splits: tuple[Split, ...] = ("val", "test")
    strangers = Scans.join(
        evaluated.scans(registry, task, split) for task in range(len(registry.tasks)) for split in splits
    )
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
                    strangers=strangers.images,
                    stranger_labels=strangers.labels,
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
    changed = [str(change) for change in differences(learned, config) if _draws_scans(change)]
    if changed:
        raise ConfigError(
            f"'{config.name}' was learned with other settings: {'; '.join(changed)}: "
            "its scans are not those that were encoded"
        )


def _draws_scans(change: Change) -> bool:
    if change.place[0] == "stream":
        return change.place not in OF_EVALUATION
    return change.place in (("seed",), ("federation", "hospitals"))


def load_scans(path: Path) -> GivenScans:
    """Read the raw scans that an auditor was given.

    Raises:
        DataError: the file is missing or does not hold `images` (n, h, w, 3) uint8 and `labels` (n,) integers.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            scans = Scans(held["images"], held["labels"].astype(np.int64, casting="same_kind"))
            names = [str(held[key]) if key in held else "" for key in ("experiment", "hospital")]
            strangers = None
            if "strangers" in held:
                labels = held["stranger_labels"].astype(np.int64, casting="same_kind")
                strangers = Scans(held["strangers"], labels)
    except FileNotFoundError:
        raise DataError(f"there is no file '{path.name}'") from None
    except KeyError as error:
        raise DataError(
            f"'{path.name}' lacks an array that `braincl scans export` writes ({error.args[0]})"
        ) from None
    except Exception as error:  # NumPy and the archive's parsers let pass whatever a damaged file makes them raise
        reason = str(error) if isinstance(error, ValueError | TypeError) else type(error).__name__
        raise DataError(
            f"'{path.name}' is not a file of scans as `braincl scans export` writes them ({reason})"
        ) from None
    return GivenScans(scans, names[0], names[1], strangers)
