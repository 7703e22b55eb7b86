"""How many scans of each class a stream keeps, and whether they are the published ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from braincl_med.foundation.errors import DataError
from braincl_med.settings.config import StreamConfig
from braincl_med.streams.place import Place
from braincl_med.streams.sources import source_of
from braincl_med.streams.tasks import Registry

MEDMNIST40: dict[str, tuple[int, int]] = {
    "pathmnist": (9000, 450),
    "dermamnist": (3314, 302),
    "octmnist": (4000, 200),
    "pneumoniamnist": (2000, 100),
    "breastmnist": (546, 92),
    "bloodmnist": (7694, 400),
    "tissuemnist": (8000, 400),
}
"""Scans kept for training and testing at 1,000 and 50 a class: 34,554 and 1,944 in all."""


def kept_counts(
    stream: StreamConfig, registry: Registry, folder: Path | None, split: Literal["train", "test"]
) -> dict[str, int]:
    """Scans kept of each class over all hospitals: `{"bloodmnist/0": 852, …}`; only labels are read."""
    cap = stream.train_per_class if split == "train" else stream.test_per_class
    held = {spec.dataset: np.zeros(0, np.int64) for spec in registry.classes}
    for dataset in held:
        labels = source_of(dataset).held(dataset, split, stream, Place(folder)).labels
        held[dataset] = np.bincount(labels, minlength=256)
    return {spec.key: min(cap, int(held[spec.dataset][int(spec.label)])) for spec in registry.classes}


def check_medmnist40_counts(train: Mapping[str, int], test: Mapping[str, int]) -> None:
    """Compare the scans kept of each class (`dataset/label`) at 1,000 and 50 a class with the published totals.

    Raises:
        DataError: naming each set that differs, what was seen and what was expected.
    """
    wrong = []
    for position, (word, counts) in enumerate((("training", train), ("test", test))):
        for dataset, both in MEDMNIST40.items():
            seen = sum(count for key, count in counts.items() if key.partition("/")[0] == dataset)
            if seen != both[position]:
                wrong.append(f"{dataset} has {seen:,} {word} scans, expected {both[position]:,}")
    if wrong:
        raise DataError(
            f"these are not the 40 classes that were published: {'; '.join(wrong)}; fetch the files again"
        )
