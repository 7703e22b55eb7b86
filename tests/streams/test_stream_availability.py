from pathlib import Path
from typing import Any

import pytest

from braincl_med.foundation.errors import ConfigError, DataError
from braincl_med.settings.config import StreamConfig
from braincl_med.streams import medmnist
from braincl_med.streams.availability import phantom_for, resolve
from braincl_med.streams.counts import MEDMNIST40, check_medmnist40_counts, kept_counts
from braincl_med.streams.named import build_registry

UNOFFICIAL: dict[str, Any] = {
    "name": "medmnist",
    "sets": ("breastmnist",),
    "download": False,
    "allow_unofficial": True,
}


def test_a_phantom_needs_no_file(tmp_path: Path) -> None:
    stream = StreamConfig(name="phantom")
    assert resolve(stream, tmp_path) == (stream, None)


def test_without_fallback_missing_files_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(medmnist.MissingScansError, match=r"bloodmnist\.npz") as caught:
        resolve(StreamConfig(name="medmnist12", download=False), tmp_path)
    assert str(tmp_path) not in str(caught.value)


def test_missing_files_fall_back_to_a_phantom_loudly(tmp_path: Path) -> None:
    asked = StreamConfig(
        name="medmnist12",
        download=False,
        fallback="phantom",
        train_per_class=70,
        test_per_class=20,
        share="dirichlet",
        alpha=0.3,
        size=64,
        order="shuffled",
        unknown=("retinamnist",),
    )
    stream, reason = resolve(asked, tmp_path)
    assert reason is not None
    assert "bloodmnist_64.npz" in reason
    assert "synthetic phantom" in reason
    assert str(tmp_path) not in reason
    assert stream.name == "phantom"
    kept = ("train_per_class", "test_per_class", "share", "alpha", "size", "order")
    assert [getattr(stream, key) for key in kept] == [getattr(asked, key) for key in kept]
    assert len(build_registry(stream, 1).tasks) == 4
    assert resolve(stream, tmp_path) == (stream, None)


def test_a_stand_in_has_no_more_tasks_than_classes() -> None:
    assert phantom_for(StreamConfig(name="medmnist40"), 10).task_count == 9


def test_a_damaged_file_never_falls_back(write_unofficial: Any) -> None:
    folder = write_unofficial("bloodmnist").parent
    with pytest.raises(DataError, match="MD5") as caught:
        resolve(StreamConfig(name="medmnist12", download=False, fallback="phantom"), folder)
    assert not isinstance(caught.value, medmnist.MissingScansError)


def test_a_named_unknown_set_must_be_there(write_unofficial: Any) -> None:
    folder = write_unofficial("breastmnist").parent
    assert resolve(StreamConfig(**UNOFFICIAL), folder)[1] is None
    with pytest.raises(medmnist.MissingScansError, match="retinamnist"):
        resolve(StreamConfig(**UNOFFICIAL, unknown=("retinamnist",)), folder)


def test_an_unofficial_file_needs_the_split_that_is_evaluated(write_unofficial: Any) -> None:
    folder = write_unofficial("breastmnist").parent
    with pytest.raises(DataError, match="val_images"):
        resolve(StreamConfig(**UNOFFICIAL, evaluate="val"), folder)


def test_a_bad_configuration_never_falls_back(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        resolve(StreamConfig(name="medmnist12", task_count=99, fallback="phantom", download=False), tmp_path)


def test_official_files_are_used(medmnist_folder: Path) -> None:
    stream = StreamConfig(name="medmnist12", fallback="phantom", download=False)
    assert resolve(stream, medmnist_folder) == (stream, None)


def test_the_published_totals_are_those_of_the_paper() -> None:
    assert sum(train for train, _ in MEDMNIST40.values()) == 34_554
    assert sum(test for _, test in MEDMNIST40.values()) == 1_944


def test_counts_that_differ_are_named() -> None:
    train = {f"{name}/0": counts[0] for name, counts in MEDMNIST40.items()}
    test = {f"{name}/0": counts[1] for name, counts in MEDMNIST40.items()}
    check_medmnist40_counts(train, test)
    with pytest.raises(DataError, match=r"dermamnist has 3,313 training scans, expected 3,314"):
        check_medmnist40_counts({**train, "dermamnist/0": 3313}, test)
    with pytest.raises(DataError, match=r"bloodmnist has 0 test scans"):
        check_medmnist40_counts(train, {key: n for key, n in test.items() if "blood" not in key})


def test_kept_scans_of_the_official_files(medmnist_folder: Path) -> None:
    stream = StreamConfig(name="medmnist12", test_per_class=50, download=False)
    registry = build_registry(stream, 1)
    train = kept_counts(stream, registry, medmnist_folder, "train")
    test = kept_counts(stream, registry, medmnist_folder, "test")
    assert [train[f"bloodmnist/{c}"] for c in range(8)] == [852, 1000, 1000, 1000, 849, 993, 1000, 1000]
    assert [train[f"breastmnist/{c}"] for c in range(2)] == [147, 399]
    assert [test[f"breastmnist/{c}"] for c in range(2)] == [42, 50]
    for name in ("bloodmnist", "breastmnist", "pneumoniamnist"):
        sums = tuple(sum(n for key, n in c.items() if key.startswith(name)) for c in (train, test))
        assert sums == MEDMNIST40[name]
