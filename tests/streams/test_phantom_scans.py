import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from braincl_med.foundation.errors import ConfigError
from braincl_med.streams import phantom
from braincl_med.streams.phantom import Split


def some(dataset: str, split: Split, per_class: int, size: int = 28) -> tuple[np.ndarray, np.ndarray]:
    labels = phantom.labels(dataset, split)
    rows = np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(labels.max() + 1)])
    return phantom.load(dataset, split, size, rows)


@pytest.mark.parametrize("dataset", phantom.DATASETS)
def test_every_class_has_as_many_scans_as_it_says(dataset: str) -> None:
    for split in ("train", "val", "test"):
        counts = np.bincount(phantom.labels(dataset, split))
        assert counts.tolist() == [phantom.PER_CLASS[split]] * len(phantom.class_names(dataset))


@pytest.mark.parametrize("dataset", phantom.DATASETS)
@pytest.mark.parametrize("size", [28, 64, 128, 224])
def test_scans_have_the_size_asked_for(dataset: str, size: int) -> None:
    images, labels = some(dataset, "train", 1, size)
    assert images.shape == (len(labels), size, size, 3)
    assert images.dtype == np.uint8
    assert images.std() > 15


@pytest.mark.parametrize("dataset", phantom.DATASETS)
def test_a_scan_does_not_depend_on_its_company(dataset: str) -> None:
    images, _ = some(dataset, "train", 90)
    rows = np.array([89, 3])
    again, labels = phantom.load(dataset, "train", 28, rows)
    np.testing.assert_array_equal(again, images[rows])
    assert labels.tolist() == [0, 0]


def test_another_seed_gives_other_scans() -> None:
    rows = np.arange(5)
    first, _ = phantom.load("phantom-smear", "train", 28, rows)
    assert (first != phantom.load("phantom-smear", "train", 28, rows, seed=1)[0]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("dataset", phantom.DATASETS)
def test_no_scan_is_in_both_splits_or_there_twice(dataset: str) -> None:
    train, test = some(dataset, "train", 100)[0], some(dataset, "test", 100)[0]
    seen = [scan.tobytes() for scan in (*train, *test)]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("dataset", ["phantom-xray", "phantom-ultrasound"])
def test_grey_modalities_are_grey(dataset: str) -> None:
    images, _ = some(dataset, "train", 2)
    assert (images == images[..., :1]).all()


def test_a_scan_looks_alike_at_every_size() -> None:
    small, _ = some("phantom-xray", "train", 2, 28)
    large, _ = some("phantom-xray", "train", 2, 224)
    shrunk = large.reshape(len(large), 28, 8, 28, 8, 3).mean(axis=(2, 4))
    assert np.abs(shrunk - small).mean() < 8


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("dataset", ["phantom-smear", "phantom-xray", "phantom-ultrasound"])
def test_classes_can_be_learned_but_not_from_single_pixels_alone(dataset: str) -> None:
    scans, labels = some(dataset, "train", 150)
    others, targets = some(dataset, "test", 100)
    model = LogisticRegression(C=0.01, max_iter=30).fit(scans.reshape(len(scans), -1) / 255, labels)
    accuracy = model.score(others.reshape(len(others), -1) / 255, targets)
    chance = 1 / len(phantom.class_names(dataset))
    assert 1.3 * chance < accuracy < 0.95


def test_an_unknown_phantom_is_refused() -> None:
    with pytest.raises(ConfigError, match="phantom-smear"):
        phantom.class_names("phantom-nothing")
