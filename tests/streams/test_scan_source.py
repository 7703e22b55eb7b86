from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braincl_med.settings.config import ExplicitTask, StreamConfig
from braincl_med.streams import medmnist, phantom
from braincl_med.streams.named import build_registry
from braincl_med.streams.place import Place
from braincl_med.streams.source import ScanSource
from braincl_med.streams.tasks import Scans


def sources(stream: StreamConfig, hospitals: int, folder: Path | None = None, seed: int = 3) -> list[ScanSource]:
    return [ScanSource(stream, Place(folder), seed, hospital, hospitals) for hospital in range(hospitals)]


def contents(images: np.ndarray) -> list[bytes]:
    return [scan.tobytes() for scan in images]


@pytest.mark.parametrize("share", ["iid", "dirichlet", "by-class", "one-class"])
@pytest.mark.parametrize("order", ["clinical", "shuffled"])
def test_hospitals_together_hold_each_class_once_up_to_the_cap(share: Any, order: Any) -> None:
    stream = StreamConfig(train_per_class=12, test_per_class=5, share=share, order=order, task_count=3)
    registry = build_registry(stream, 3)
    for task in range(3):
        numbers = registry.numbers(task)
        for split, cap in (("train", 12), ("val", 5), ("test", 5)):
            together = Scans.join(source.scans(registry, task, split) for source in sources(stream, 3))
            assert Counter(together.labels.tolist()) == dict.fromkeys(numbers, cap)
            assert len(set(contents(together.images))) == len(together)


def test_labels_are_the_registrys_numbers_of_the_right_scans() -> None:
    tasks = (
        ExplicitTask(name="first", classes=("phantom-smear/3",)),
        ExplicitTask(name="mixed", classes=("phantom-xray/2", "phantom-ultrasound/1", "phantom-xray/0")),
    )
    stream = StreamConfig(name="tasks", tasks=tasks, train_per_class=1200)
    registry = build_registry(stream, 3)
    scans = sources(stream, 1)[0].scans(registry, 1, "test")
    for number, dataset, label in ((1, "phantom-xray", 2), (2, "phantom-ultrasound", 1), (3, "phantom-xray", 0)):
        images, labels = phantom.load(dataset, "test", 28)
        assert set(contents(scans.images[scans.labels == number])) <= set(contents(images[labels == label]))
        assert (scans.labels == number).sum() == 50


def test_test_scans_are_shared_evenly_whatever_the_share_of_training_scans() -> None:
    stream = StreamConfig(share="by-class", test_per_class=9, train_per_class=9)
    registry = build_registry(stream, 3)
    assert [len(source.scans(registry, 0, "test")) for source in sources(stream, 3)] == [12, 12, 12]


def test_scans_are_the_same_each_time_and_shuffled() -> None:
    stream = StreamConfig(train_per_class=30)
    registry = build_registry(stream, 3)
    first, again = (sources(stream, 3)[1].scans(registry, 0, "train") for _ in range(2))
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (np.diff(first.labels) < 0).sum() > 5
    other = sources(stream, 3, seed=4)[1].scans(registry, 0, "train")
    assert set(contents(other.images)) != set(contents(first.images))


def test_the_scans_of_a_class_do_not_depend_on_the_order_of_tasks() -> None:
    streams = [StreamConfig(train_per_class=5, order=order) for order in ("clinical", "shuffled")]
    held = []
    for stream in streams:
        registry = build_registry(stream, 3)
        source = sources(stream, 1)[0]
        parts = [source.scans(registry, task, "train") for task in range(len(registry.tasks))]
        held.append({scan for part in parts for scan in contents(part.images)})
    assert held[0] == held[1]


def test_a_hospital_without_scans_gets_none() -> None:
    stream = StreamConfig(train_per_class=1, test_per_class=1)
    registry = build_registry(stream, 3)
    counts = [len(source.scans(registry, 2, "test")) for source in sources(stream, 4)]
    assert sorted(counts) == [0, 0, 1, 1]


def test_unknown_scans_are_shared_and_are_the_first_of_each_class() -> None:
    stream = StreamConfig(test_per_class=6)
    shares = [source.unknown("phantom-fundus") for source in sources(stream, 3)]
    assert [len(images) for images in shares] == [4, 4, 4]
    images, labels = phantom.load("phantom-fundus", "test", 28)
    expected = np.concatenate([images[labels == c][:6] for c in range(2)])
    assert sorted(contents(np.concatenate(shares))) == sorted(contents(expected))


def test_unknown_scans_are_of_the_split_that_is_evaluated() -> None:
    images, labels = phantom.load("phantom-fundus", "val", 28)
    expected = np.concatenate([images[labels == c][:6] for c in range(2)])
    unknown = sources(StreamConfig(test_per_class=6, evaluate="val"), 1)[0].unknown("phantom-fundus")
    assert sorted(contents(unknown)) == sorted(contents(expected))


def test_missing_unknown_scans_are_told(tmp_path: Path) -> None:
    with pytest.raises(medmnist.MissingScansError):
        sources(StreamConfig(download=False), 1, tmp_path)[0].unknown("retinamnist")


def test_official_files_mixed_in_one_task(medmnist_folder: Path) -> None:
    stream = StreamConfig(name="medmnist12", order="shuffled", download=False, test_per_class=50)
    registry = build_registry(stream, 3)
    source = sources(stream, 1, medmnist_folder)[0]
    task = next(t for t, spec in enumerate(registry.tasks) if len({c.dataset for c in spec.classes}) > 1)
    scans = source.scans(registry, task, "test")
    for number, spec in zip(registry.numbers(task), registry.tasks[task].classes, strict=True):
        images, labels = medmnist.load(spec.dataset, "test", folder=medmnist_folder)
        mine = contents(scans.images[scans.labels == number])
        assert set(mine) <= set(contents(images[labels == spec.label]))
        assert len(mine) == min(50, int((labels == spec.label).sum()))
