"""Whether a stream's files are there, and the phantom that stands in for them if that was asked for."""

from collections.abc import Sequence
from pathlib import Path

from braincl_med.foundation.arrays import Split
from braincl_med.foundation.errors import MissingScansError
from braincl_med.settings.config import StreamConfig
from braincl_med.streams.catalogue import classes_of
from braincl_med.streams.counts import check_medmnist40_counts, kept_counts
from braincl_med.streams.named import SETS, build_registry, unknown_sets
from braincl_med.streams.place import Place
from braincl_med.streams.sources import source_of
from braincl_med.streams.tasks import ClassSpec, Registry


def resolve(stream: StreamConfig, folder: Path | None) -> tuple[StreamConfig, str | None]:
    """The stream that can be run, and if it is not the one asked for, a sentence that says so.

    Only missing files are stood in for: a damaged one always is an error, for somebody meant it to be used.

    Args:
        folder: where MedMNIST's files lie; None means medmnist's own folder.

    Raises:
        ConfigError: as `build_registry` and `unknown_sets`.
        DataError: a file is damaged, or missing without `fallback: phantom`.
    """
    registry = build_registry(stream, seed=0)
    unknown_sets(stream, registry)
    try:
        # An unofficial file may lack the split that is evaluated.
        require_scans(registry.classes, (stream.evaluate,), stream, folder)
        for dataset in stream.unknown:
            source_of(dataset).held(dataset, stream.evaluate, stream, Place(folder))
    except MissingScansError as error:
        if stream.fallback != "phantom":
            raise
        return phantom_for(stream, len(registry.tasks)), (
            f"{error}. This run uses synthetic phantom scans instead of '{stream.name}': its figures say nothing "
            "about medicine"
        )
    _check_counts(stream, registry, folder)
    return stream, None


def require_scans(
    classes: Sequence[ClassSpec],
    splits: Sequence[Split],
    stream: StreamConfig,
    folder: Path | None,
    hospitals: int | None = None,
) -> None:
    """Look for the scans of `classes` on this machine, and fetch those that are missing if `stream` allows it.

    Raises:
        DataError: some are missing or damaged, or there are none of such a split.
    """
    for dataset in dict.fromkeys(spec.dataset for spec in classes):
        for split in splits:
            asked = [spec for spec in classes if spec.dataset == dataset]
            source_of(dataset).require(asked, split, stream, Place(folder, hospitals=hospitals))


def phantom_for(stream: StreamConfig, task_count: int) -> StreamConfig:
    """A phantom stream with the same limits and shares, of `task_count` tasks or as many as it has classes."""
    most = sum(len(classes_of(name)) for name in SETS["phantom"])
    stand_in = {"name": "phantom", "sets": (), "tasks": (), "unknown": (), "task_count": min(task_count, most)}
    return StreamConfig.model_validate({**stream.model_dump(), **stand_in})


def _check_counts(stream: StreamConfig, registry: Registry, folder: Path | None) -> None:
    """Guard the published stream: official files alone, at the caps for which totals were published."""
    published = (stream.train_per_class, stream.test_per_class) == (1000, 50)
    if stream.name == "medmnist40" and published and not stream.allow_unofficial:
        check_medmnist40_counts(
            kept_counts(stream, registry, folder, "train"), kept_counts(stream, registry, folder, "test")
        )
