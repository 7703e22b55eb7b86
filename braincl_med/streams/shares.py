"""Which scans of a task a hospital holds."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from braincl_med.foundation.arrays import Labels, Positions
from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.seeding import seed_for

Share = Literal["iid", "dirichlet", "by-class", "one-class"]

PADDING = -1


def share_of(
    labels: Labels,
    classes: Mapping[int, str],
    cap: int | Mapping[int, int],
    share: Share,
    alpha: float,
    hospitals: int,
    hospital: int,
    seed: int,
) -> Positions:
    """Positions in `labels` (ascending) of the scans that `hospital` holds; it may be none.

    The shares of all hospitals are disjoint and together hold the at most `cap` scans kept of each class.

    Args:
        labels: (n,) one label a scan; scans of labels that are not in `classes` belong to nobody.
        classes: label to an identity such as `dataset/label`. The identity seeds the choice of the kept scans,
            so that they are the same whatever the order of tasks.
        cap: of every class, or of each by its label.
        share: `iid` (a random n-th), `dirichlet` (each class divided in proportions drawn with concentration
            `alpha`), `by-class` (each class lies at as few hospitals as possible), or `one-class` (the last
            hospital holds an n-th of one class, drawn by the seed, and the others share all other scans evenly).

    Raises:
        ConfigError: `hospital` is not below `hospitals`.
    """
    if not 0 <= hospital < hospitals:
        raise ConfigError(f"hospital number {hospital} does not exist: {hospitals} take part, numbered from 0")
    kept = capped(labels, classes, cap, seed)
    if hospitals == 1 or not len(kept):
        return kept
    division = seed_for(seed, share, *sorted(classes.values()))
    if share == "one-class":
        return np.sort(kept[_divide_with_one_class(labels[kept], hospitals, hospital, division)])
    return np.sort(kept[_divide(labels[kept], share, alpha, hospitals, hospital, division)])


def capped(labels: Labels, classes: Mapping[int, str], cap: int | Mapping[int, int], seed: int) -> Positions:
    """Positions (ascending) of at most `cap` scans of each class, chosen at random."""
    parts = [np.zeros(0, np.int64)]
    for label, identity in classes.items():
        held = np.flatnonzero(labels == label)
        most = cap if isinstance(cap, int) else cap[label]
        if len(held) > most:
            held = np.random.default_rng(seed_for(seed, "cap", identity)).choice(held, most, replace=False)
        parts.append(held)
    return np.sort(np.concatenate(parts))


def _divide_with_one_class(labels: Labels, hospitals: int, hospital: int, seed: int) -> Positions:
    """Positions of one hospital's scans: one class is shared by all hospitals, the others by all but the last."""
    common = labels == np.random.default_rng(seed).choice(np.unique(labels))
    parts = [(np.flatnonzero(common), hospitals), (np.flatnonzero(~common), hospitals - 1)]
    mine = [
        held[_divide(labels[held], "iid", 0, holders, hospital, seed)]
        for held, holders in parts
        if len(held) and hospital < holders
    ]
    return np.concatenate(mine)


def _divide(labels: Labels, share: Share, alpha: float, hospitals: int, hospital: int, seed: int) -> Positions:
    """Positions of one hospital's scans, by a partitioner of flwr-datasets."""
    # Imported late: it takes seconds, and a hospital alone needs none of it.
    from flwr_datasets.partitioner import DirichletPartitioner, IidPartitioner, PathologicalPartitioner

    # No partitioner takes fewer rows than partitions.
    numbers, groups = _padded(np.arange(len(labels)), labels, labels[0], hospitals - len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(numbers))
    numbers, groups = numbers[shuffled], groups[shuffled]
    partitioner: Any
    if share == "iid":
        partitioner = IidPartitioner(num_partitions=hospitals)
    elif share == "dirichlet":
        partitioner = DirichletPartitioner(
            num_partitions=hospitals,
            partition_by="label",
            alpha=float(alpha),
            min_partition_size=0,
            self_balancing=False,
            seed=seed,
        )
    else:
        groups = _grouped(groups, hospitals, seed)
        partitioner = PathologicalPartitioner(
            num_partitions=hospitals,
            partition_by="label",
            num_classes_per_partition=1,
            class_assignment_mode="deterministic",
            seed=seed,
        )
        # This one also refuses a class of fewer rows than there are partitions that hold it.
        present, counts = np.unique(groups, return_counts=True)
        for rank, (group, count) in enumerate(zip(present, counts, strict=True)):
            holders = len(range(rank, hospitals, len(present)))
            numbers, groups = _padded(numbers, groups, group, holders - count)
    partitioner.dataset = _table(numbers, groups)
    mine: Positions = np.asarray(partitioner.load_partition(hospital)["index"], np.int64)
    held: Positions = mine[mine != PADDING]
    return held


def _grouped(labels: Labels, hospitals: int, seed: int) -> Labels:
    """Labels merged into at most as many groups as there are hospitals, so that one group a hospital holds all."""
    present = np.unique(labels)
    order = np.random.default_rng(seed_for(seed, "groups")).permutation(len(present))
    groups: Labels = order[np.searchsorted(present, labels)] % hospitals
    return groups


def _padded(numbers: Positions, labels: Labels, label: int, count: int) -> tuple[Positions, Labels]:
    """`count` more rows (none if negative) of `label` that stand for no scan and are dropped afterwards."""
    more = max(0, count)
    return (
        np.concatenate([numbers, np.full(more, PADDING, np.int64)]),
        np.concatenate([labels, np.full(more, label, np.int64)]),
    )


def _table(numbers: Positions, labels: Labels) -> Any:
    import datasets

    datasets.disable_progress_bars()
    return datasets.Dataset.from_dict({"index": numbers, "label": labels})
