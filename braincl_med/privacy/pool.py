"""Scans on which attacks are tried: a task's members, which were learned, and strangers, which were not."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from braincl_med.foundation.seeding import seed_for
from braincl_med.privacy.fidelity import Pairs
from braincl_med.streams.tasks import Scans

FEWEST = 20
"""Members or strangers of a task: fewer tell nothing of how often one is taken for the other."""
LARGEST = 300
"""Members, and strangers, that are tried of a task."""


@dataclass(frozen=True)
class Pool:
    """Members and strangers of a task.

    Attributes:
        scans: all of them.
        members: (n,) which were learned.
    """

    scans: Scans
    members: npt.NDArray[np.bool_]

    @staticmethod
    def of(name: str, held: Pairs, strangers: Scans, seed: int) -> "Pool":
        """At most LARGEST of each, drawn by the seed.

        Raises:
            ValueError: there are fewer than FEWEST of one kind; says how many.
        """
        if min(len(strangers), len(held.own)) < FEWEST:
            raise ValueError(
                f"there are {len(held.own)} scans that were learned and {len(strangers)} that were not, "
                f"at least {FEWEST} of each are needed"
            )
        rng = np.random.default_rng(seed_for(seed, "pool", name))
        parts = [one.take(rng.permutation(len(one))[:LARGEST]) for one in (members_of(held), strangers)]
        return Pool(Scans.join(parts), np.repeat([True, False], [len(part) for part in parts]))

    @staticmethod
    def join(pools: list["Pool"]) -> "Pool":
        """All scans of several tasks."""
        return Pool(Scans.join(p.scans for p in pools), np.concatenate([p.members for p in pools]))


def members_of(held: Pairs) -> Scans:
    """The scans that a task's memory stands for, in the order of its records."""
    return Scans(held.originals[held.own], held.labels[held.own])


def strangers_of(held: Pairs, strangers: Scans | None) -> Scans:
    """Those of the given `strangers` that are of a task's classes and size."""
    if strangers is None or strangers.images.shape[1:] != held.originals.shape[1:]:
        return Scans(held.originals[:0], held.labels[:0])
    return strangers.take(np.isin(strangers.labels, held.labels))
