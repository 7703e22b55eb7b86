"""Phantoms: synthetic scans of several modalities, drawn by formula, so that everything runs without any file.

They have the shape of the problem (modalities that come one after another, a few classes in each, variety within
a class) and no medical content.
"""

import numpy as np
import numpy.typing as npt

from braincl_med.foundation.arrays import Images, Labels, Split
from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.seeding import seed_for
from braincl_med.streams.renderers.canvas import Canvas, Modality
from braincl_med.streams.renderers.fundus import FUNDUS
from braincl_med.streams.renderers.smear import SMEAR
from braincl_med.streams.renderers.ultrasound import ULTRASOUND
from braincl_med.streams.renderers.xray import XRAY

DATASETS: dict[str, Modality] = {
    "phantom-smear": SMEAR,
    "phantom-xray": XRAY,
    "phantom-ultrasound": ULTRASOUND,
    "phantom-fundus": FUNDUS,
}
PER_CLASS: dict[str, int] = {"train": 1200, "val": 200, "test": 200}
"""Scans of each class in each split, as if they lay in a file."""

PIXELS_AT_ONCE = 1 << 17
"""Pixels that are drawn together: small enough for the processor's cache."""


def title(dataset: str) -> str:
    """What stands before the class names, such as `synthetic smear`."""
    return _modality(dataset).title


def class_names(dataset: str) -> tuple[str, ...]:
    """The classes of `dataset` in the order of their labels.

    Raises:
        ConfigError: there is no such phantom.
    """
    return _modality(dataset).class_names


def labels(dataset: str, split: Split) -> Labels:
    """The labels (n,) of a split, class by class."""
    return np.repeat(np.arange(len(class_names(dataset))), PER_CLASS[split])


def load(
    dataset: str, split: Split, size: int = 28, rows: npt.NDArray[np.int64] | None = None, seed: int = 0
) -> tuple[Images, Labels]:
    """Scans (n, size, size, 3) uint8 and labels (n,) int64 of a split.

    Args:
        size: pixels a side; a scan looks nearly the same at every size.
        rows: which scans, in which order; None means all. Only these are drawn.
        seed: another one gives another data set of the same kind.
    """
    modality = _modality(dataset)
    targets = labels(dataset, split)
    wanted = np.arange(len(targets)) if rows is None else rows
    images = np.empty((len(wanted), size, size, 3), np.uint8)
    step = max(1, PIXELS_AT_ONCE // size**2)
    for start in range(0, len(wanted), step):
        some = wanted[start : start + step]
        seeds = [seed_for(seed, dataset, split, int(row)) for row in some]
        drawn = modality.render(Canvas(targets[some], seeds, size))
        images[start : start + step] = np.rint(np.clip(drawn, 0, 1) * 255)
    return images, targets[wanted]


def _modality(dataset: str) -> Modality:
    if dataset not in DATASETS:
        raise ConfigError(f"there is no phantom '{dataset}'; choose from: {', '.join(DATASETS)}")
    return DATASETS[dataset]
