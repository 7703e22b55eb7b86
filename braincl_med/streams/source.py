"""Where one hospital's scans come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from braincl_med.foundation.arrays import Images, Positions, Split
from braincl_med.foundation.errors import DataError
from braincl_med.foundation.seeding import seed_for
from braincl_med.settings.config import StreamConfig
from braincl_med.streams.catalogue import classes_of
from braincl_med.streams.held import Held
from braincl_med.streams.place import Place
from braincl_med.streams.shares import capped, share_of
from braincl_med.streams.sources import source_of
from braincl_med.streams.tasks import ClassSpec, Registry, Scans

PUBLIC_PER_CLASS = 200
"""Scans of a class of a public set from which a memory is taught."""


@dataclass(frozen=True)
class ScanSource:
    """One hospital's share of a stream. Nothing is kept: each call reads the scans anew.

    Attributes:
        place: where its files are looked for.
        seed: the experiment's.
        hospital: this hospital's number, below `hospitals`.
    """

    stream: StreamConfig
    place: Place
    seed: int
    hospital: int
    hospitals: int

    def scans(self, registry: Registry, task: int, split: Split) -> Scans:
        """This hospital's scans of a task, labelled with the registry's class numbers, in a seeded random order.

        Of scans that all hospitals have, training scans are shared as the configuration says, the others always
        evenly at random, over those that took part when the task was begun. Scans of its own (`Source.shared`) are a
        hospital's all, up to the same limit a class.
        Validation and test scans are for evaluation only.

        Raises:
            DataError: as `Source.held`; or no hospital can have a training scan of a class.
        """
        numbered = dict(zip(registry.numbers(task), registry.tasks[task].classes, strict=True))
        names = tuple(dict.fromkeys(spec.dataset for spec in numbered.values()))
        held = [source_of(name).held(name, split, self.stream, self.place) for name in names]
        starts = np.cumsum([0, *(len(one.labels) for one in held)])
        labels = np.concatenate([_numbers(name, one, numbered) for name, one in zip(names, held, strict=True)])
        everywhere = {name for name in names if source_of(name).shared(name, self.place)}
        common = {number: spec for number, spec in numbered.items() if spec.dataset in everywhere}
        without = [spec.key for number, spec in common.items() if not (labels == number).any()]
        if split == "train" and without:
            raise DataError(
                f"there is no training scan of '{without[0]}' in its data set: leave the class out, or add scans"
            )
        cap = tail(registry, self.stream, self.seed) if split == "train" else self.stream.test_per_class
        own = {number: spec.key for number, spec in numbered.items() if number not in common}
        mine_alone = capped(labels, own, cap, seed_for(self.seed, "share", split))
        dealt = registry.tasks[task].dealt or self.hospitals
        index = np.sort(np.concatenate([self._share(labels, common, split, cap, dealt), mine_alone]))
        parts = []
        for one, start, stop in zip(held, starts[:-1], starts[1:], strict=True):
            mine = index[(index >= start) & (index < stop)]
            # Groups are compared where scans are evaluated; what is learned is not told of any.
            told = None if one.groups is None or split == "train" else one.groups[mine - start]
            parts.append(Scans(one.images(mine - start), labels[mine], groups=told))
        together = Scans.join(parts)
        keys = sorted(spec.key for spec in numbered.values())
        together = replace(together, patients=_patients(held, index))
        generator = np.random.default_rng(seed_for(self.seed, "scan-order", split, *keys, self.hospital))
        return together.take(generator.permutation(len(together)))

    def unknown(self, dataset: str) -> Images:
        """This hospital's even share (n, size, size, 3) of the first scans a class of a set that no task learns, from
        the split that is evaluated.

        Raises:
            DataError: as `Source.held`; MissingScansError if there is no file.
        """
        split = self.stream.evaluate
        held = source_of(dataset).held(dataset, split, self.stream, self.place)
        labels = held.labels
        classes = dict(enumerate(classes_of(dataset)))
        first = np.concatenate([np.flatnonzero(labels == c)[: self.stream.test_per_class] for c in classes])
        masked = np.full_like(labels, -1)
        masked[first] = labels[first]
        mine = self._share(masked, classes, split, self.stream.test_per_class, self.hospitals)
        return held.images(mine)

    def public(self, datasets: Sequence[str]) -> Scans:
        """The first training scans a class of public sets, the same at every hospital; classes numbered set by set.

        Raises:
            DataError: as `Source.held`.
        """
        parts, first = [], 0
        for dataset in datasets:
            held = source_of(dataset).held(dataset, "train", self.stream, self.place)
            classes = np.unique(held.labels)
            chosen = [np.flatnonzero(held.labels == label)[:PUBLIC_PER_CLASS] for label in classes]
            numbers = np.repeat(first + np.arange(len(classes)), [len(one) for one in chosen])
            parts.append(Scans(held.images(np.concatenate(chosen)), numbers))
            first += len(classes)
        return Scans.join(parts)

    def _share(
        self,
        labels: Positions,
        numbered: dict[int, ClassSpec],
        split: Split,
        cap: int | Mapping[int, int],
        hospitals: int,
    ) -> Positions:
        """This hospital's share of scans that are dealt out over `hospitals`; none if it joined afterwards."""
        if self.hospital >= hospitals:
            return np.zeros(0, np.int64)
        train = split == "train"
        return share_of(
            labels,
            {number: spec.key for number, spec in numbered.items()},
            cap=cap,
            share=self.stream.share if train else "iid",
            alpha=self.stream.alpha,
            hospitals=hospitals,
            hospital=self.hospital,
            seed=seed_for(self.seed, "share", split),
        )


def _numbers(dataset: str, held: Held, numbered: dict[int, ClassSpec]) -> Positions:
    """The class number of every scan of a set; -1 for classes of other tasks."""
    numbers = np.full(len(held.labels), -1, np.int64)
    for number, spec in numbered.items():
        if spec.dataset == dataset:
            numbers[np.isin(held.labels, spec.labels)] = number
    return numbers


def _patients(held: Sequence[Held], index: Positions) -> Positions | None:
    """The patients of the scans at `index` of all sets by number, None where no set knows any.

    A scan of a set that knows none is a patient's of its own.
    """
    if all(one.patients is None for one in held):
        return None
    names: list[object] = []
    for number, one in enumerate(held):
        alone = [(number, row) for row in range(len(one.labels))]
        names += alone if one.patients is None else one.patients.tolist()
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names[row] for row in index))}
    return np.array([numbers[names[row]] for row in index], np.int64)


def tail(registry: Registry, stream: StreamConfig, seed: int) -> dict[int, int]:
    """How many training scans of each class number there are at most, all hospitals together.

    All `train_per_class`; with an imbalance r, that times r^(−rank / (classes − 1)), the ranks drawn by the seed. At
    least one.
    """
    classes = len(registry.classes)
    ranks = np.random.default_rng(seed_for(seed, "imbalance")).permutation(classes)
    shares = float(stream.imbalance) ** (-ranks / max(1, classes - 1))
    return {number: max(1, round(stream.train_per_class * share)) for number, share in enumerate(shares.tolist())}
