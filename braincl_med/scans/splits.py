"""Which scans train, validate and test: drawn once, patient by patient, in like shares of every class."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass

from braincl_med.foundation.arrays import Split

SHARES: dict[Split, float] = {"train": 0.7, "test": 0.2, "val": 0.1}
TAUGHT: tuple[Split, ...] = ("train", "val", "test")
"""What a network has seen most of first."""


def taught_first(splits: Iterable[Split]) -> Split | None:
    """Where scans belong that were in several splits before: what trained once does not test. None for no split."""
    return min(splits, key=TAUGHT.index, default=None)


@dataclass(frozen=True)
class Group:
    """Scans that belong into one split: those of a patient, or a single one.

    Attributes:
        identity: what tells it from others, the same wherever and whenever it is met.
        labels: how many scans of each class it holds.
    """

    identity: bytes
    labels: Mapping[str, int]


def draw_splits(groups: Iterable[Group], held: MutableMapping[str, Counter[Split]], seed: int) -> dict[bytes, Split]:
    """A split for each group, such that every class comes near `SHARES`; the order of `groups` does not matter.

    Group after group, in an order drawn by the seed, goes where its classes lack most.

    Args:
        groups: that have no split yet.
        held: by class, how many scans lie in each split already; it is counted on.
        seed: another one gives other splits.
    """
    order = sorted(groups, key=lambda g: hashlib.blake2b(g.identity, key=seed.to_bytes(8, "little")).digest())
    drawn: dict[bytes, Split] = {}
    for group in order:

        def lack(split: Split, group: Group = group) -> float:
            counts = ((held.setdefault(label, Counter()), n) for label, n in group.labels.items())
            return sum(n * (SHARES[split] * (have.total() + n) - have[split]) for have, n in counts)

        drawn[group.identity] = max(SHARES, key=lack)
        for label, n in group.labels.items():
            held[label][drawn[group.identity]] += n
    return drawn
