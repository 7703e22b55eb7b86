import errno
import shutil
import zipfile
from pathlib import Path
from typing import Any

import medmnist as medmnist_package
import numpy as np
import pytest

from braincl_med.foundation.errors import ConfigError, DataError
from braincl_med.streams import medmnist, npz
from braincl_med.streams.contents import check_contents

NO_SCANS, NO_LABELS = np.zeros((0, 28, 28), np.uint8), np.zeros((0, 1), np.uint8)


def refusal(folder: Path, flag: str = "breastmnist", **settings: Any) -> str:
    """The sentence with which a file is refused; none may name a folder."""
    with pytest.raises(DataError) as caught:
        medmnist.load(flag, "train", folder=folder, **settings)
    sentence = str(caught.value)
    assert not isinstance(caught.value, medmnist.MissingScansError)
    assert str(folder) not in sentence
    assert folder.name not in sentence
    assert f"{flag}.npz" in sentence
    return sentence


def test_every_2d_single_label_set_can_be_learned() -> None:
    offered = medmnist.flags()
    assert len(offered) == 11
    assert not {"chestmnist", "organmnist3d"} & set(offered)
    assert len(medmnist.class_names("organamnist")) == 11


def test_class_names_follow_the_labels() -> None:
    assert medmnist.class_names("breastmnist") == ("malignant", "normal, benign")
    assert medmnist.class_names("retinamnist")[0] == "grade 0"


@pytest.mark.parametrize(
    ("flag", "word"),
    [("chestmnist", "several labels"), ("nodulemnist3d", "volumes"), ("nonsense", "no MedMNIST set")],
)
def test_unusable_sets_are_refused_by_name(flag: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        medmnist.load(flag, "train", folder=tmp_path)
    assert flag in str(caught.value)
    assert "bloodmnist" in str(caught.value)


def test_a_missing_file_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(medmnist.MissingScansError, match=r"'breastmnist_64.npz' is missing") as caught:
        medmnist.ensure("breastmnist", 64, tmp_path)
    assert str(tmp_path) not in str(caught.value)


def test_a_failed_download_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any) -> None:
        Path(self.root, "breastmnist.npz").write_bytes(b"half a file")
        raise RuntimeError(f"could not write below {self.root}")

    monkeypatch.setattr(medmnist_package.BreastMNIST, "download", fail)
    folder = tmp_path / "new-folder"
    with pytest.raises(medmnist.MissingScansError, match="could not be downloaded") as caught:
        medmnist.ensure("breastmnist", folder=folder, download=True)
    assert str(tmp_path) not in str(caught.value)
    assert list(folder.iterdir()) == []


def test_a_download_lands_in_the_folder_and_is_checked(
    tmp_path: Path, medmnist_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        medmnist_package.BreastMNIST,
        "download",
        lambda self: shutil.copy(medmnist_folder / "breastmnist.npz", self.root),
    )
    found = medmnist.ensure("breastmnist", folder=tmp_path, download=True)
    assert found == tmp_path / "breastmnist.npz"


def test_medmnists_own_folder_is_searched_too(no_home_folder: Path, medmnist_folder: Path, tmp_path: Path) -> None:
    shutil.copy(medmnist_folder / "breastmnist.npz", no_home_folder)
    assert medmnist.ensure("breastmnist", folder=tmp_path).parent == no_home_folder
    assert medmnist.ensure("breastmnist").parent == no_home_folder


@pytest.mark.parametrize("unofficial", [False, True])
def test_a_truncated_file_is_refused(unofficial: bool, medmnist_folder: Path, tmp_path: Path) -> None:
    content = (medmnist_folder / "breastmnist.npz").read_bytes()
    (tmp_path / "breastmnist.npz").write_bytes(content[: len(content) // 2])
    assert "damaged" in refusal(tmp_path, allow_unofficial=unofficial)


@pytest.mark.parametrize("unofficial", [False, True])
def test_a_flipped_byte_is_refused(unofficial: bool, medmnist_folder: Path, tmp_path: Path) -> None:
    content = bytearray((medmnist_folder / "breastmnist.npz").read_bytes())
    content[200_000] ^= 1
    (tmp_path / "breastmnist.npz").write_bytes(content)
    sentence = refusal(tmp_path, allow_unofficial=unofficial)
    if not unofficial:
        assert medmnist_package.INFO["breastmnist"]["MD5"] in sentence


def test_another_file_passes_only_when_allowed(write_unofficial: Any) -> None:
    folder = write_unofficial("breastmnist").parent
    assert "stream-allow-unofficial" in refusal(folder)
    images, labels = medmnist.load("breastmnist", "train", folder=folder, allow_unofficial=True)
    assert images.shape == (24, 28, 28, 3)
    assert labels.tolist() == [0, 1] * 12


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"train_labels": None}, "train_labels"),
        ({"test_images": None}, "test_images"),
        ({"train_images": np.zeros((24, 28, 28), np.float32)}, "float32"),
        ({"train_images": np.zeros((24, 32, 32), np.uint8)}, "32"),
        ({"train_images": np.zeros((24, 28, 28, 4), np.uint8)}, "4"),
        ({"train_images": np.zeros((23, 28, 28), np.uint8)}, "23"),
        ({"train_images": np.asfortranarray(np.ones((24, 28, 28), np.uint8))}, "Fortran's order, which"),
        ({"train_images": np.zeros((24, 28, 28), np.uint8)}, "train scans of a single colour each"),
        (
            {"test_images": np.repeat(np.arange(10, dtype=np.uint8), 784).reshape(10, 28, 28)},
            "test scans of a single",
        ),
        (
            {"train_images": np.zeros((0, 28, 28), np.uint8), "train_labels": np.zeros((0, 1), np.uint8)},
            "no train sc",
        ),
        (
            {"test_images": np.zeros((0, 28, 28), np.uint8), "test_labels": np.zeros((0, 1), np.uint8)},
            "no test scans",
        ),
        ({"train_labels": np.full((24, 1), 2, np.uint8)}, "only the classes 0 to 1"),
        ({"train_labels": np.zeros((24, 14), np.uint8)}, "14"),
        ({"train_labels": np.array([{}] * 24, object)}, "object"),
    ],
)
def test_an_unofficial_file_must_be_of_the_right_kind(changes: Any, word: str, write_unofficial: Any) -> None:
    path = write_unofficial("breastmnist", **changes)
    assert word in refusal(path.parent, allow_unofficial=True)


@pytest.mark.parametrize("key", ["train_images", "train_labels"])
def test_an_array_that_ends_early_is_refused(key: str, write_unofficial: Any) -> None:
    path = write_unofficial("breastmnist")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[f"{key}.npy"] = members[f"{key}.npy"][:-10]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "damaged" in refusal(path.parent, allow_unofficial=True)


def with_members(path: Path, compression: int = zipfile.ZIP_STORED, **changes: bytes) -> None:
    """Write the archive at `path` again with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members |= {f"{key}.npy": content for key, content in changes.items()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "text",
    [
        b"{'shape': (24, 28",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"(" * 900,
        b"\xff\0",
        b"{",
        b"1 +",
    ],
)
def test_a_header_that_no_parser_can_read_is_damage(text: bytes, write_unofficial: Any) -> None:
    path = write_unofficial("breastmnist")
    header = text.ljust(2000) + b"\n"
    with_members(path, train_images=b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert "damaged" in refusal(path.parent, allow_unofficial=True)


def test_what_is_packed_otherwise_is_not_called_damaged_alone(write_unofficial: Any) -> None:
    path = write_unofficial("breastmnist")
    with_members(path, train_images=b"\x93NUMPY\x09\x00" + b" " * 200)
    assert "numpy.savez_compressed" in refusal(path.parent, allow_unofficial=True)


def test_a_file_that_may_not_be_read_is_not_to_be_deleted(write_unofficial: Any, monkeypatch: Any) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "no")

    path = write_unofficial("breastmnist")
    monkeypatch.setattr(medmnist, "_md5_of_version", refuse)
    sentence = refusal(path.parent, allow_unofficial=True)
    assert sentence == "'breastmnist.npz' cannot be read: permission denied; give a file that this user may read"


def test_test_scans_that_were_training_scans_are_counted_or_refused(write_unofficial: Any, caplog: Any) -> None:
    images = np.random.default_rng(1).integers(0, 256, (24, 28, 28), dtype=np.uint8)
    some = np.concatenate([images[:3], 255 - images[3:10]])
    path = write_unofficial("breastmnist", train_images=images, test_images=some)
    for _ in range(2):
        medmnist.load("breastmnist", "train", folder=path.parent, allow_unofficial=True)
    assert caplog.messages == ["'breastmnist.npz': 3 of its 10 test scans are training scans too"]
    write_unofficial("breastmnist", train_images=images, test_images=images[14:])
    assert "no test scan that is not a training scan too" in refusal(path.parent, allow_unofficial=True)


def test_a_class_without_training_scans_is_warned_of(write_unofficial: Any, caplog: Any) -> None:
    path = write_unofficial("breastmnist", train_labels=np.zeros((24, 1), np.uint8))
    medmnist.load("breastmnist", "train", folder=path.parent, allow_unofficial=True)
    assert caplog.messages == ["'breastmnist.npz' holds no training scans of: normal, benign"]


@pytest.mark.parametrize("flag", ["breastmnist", "pneumoniamnist"])
def test_official_files_would_pass_as_unofficial_ones(flag: str, medmnist_folder: Path) -> None:
    labels = medmnist.labels(flag, "train", folder=medmnist_folder)
    check_contents(medmnist_folder / f"{flag}.npz", medmnist.class_names(flag), labels)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "breastmnist.npz").write_bytes(b"<html>not found</html>")
    assert "damaged" in refusal(tmp_path, allow_unofficial=True)


@pytest.mark.parametrize("block", [1, 2000, 1 << 24])
def test_chosen_rows_come_in_the_order_asked_for(
    block: int, write_unofficial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "BLOCK", block)
    folder = write_unofficial("breastmnist").parent
    everything, targets = medmnist.load("breastmnist", "train", folder=folder, allow_unofficial=True)
    rows = np.array([5, 2, 23, 2, 0])
    images, labels = medmnist.load("breastmnist", "train", folder=folder, allow_unofficial=True, rows=rows)
    np.testing.assert_array_equal(images, everything[rows])
    np.testing.assert_array_equal(labels, targets[rows])
    assert len(medmnist.load("breastmnist", "train", 28, folder, True, rows[:0])[0]) == 0


@pytest.mark.parametrize(
    ("flag", "counts"),
    [("bloodmnist", (11959, 3421)), ("breastmnist", (546, 156)), ("pneumoniamnist", (4708, 624))],
)
def test_official_files_read_as_numpy_reads_them(flag: str, counts: tuple[int, int], medmnist_folder: Path) -> None:
    images, labels = medmnist.load(flag, "test", folder=medmnist_folder)
    with np.load(medmnist_folder / f"{flag}.npz") as file:
        expected = file["test_images"]
        np.testing.assert_array_equal(labels, file["test_labels"][:, 0])
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert images.shape == (counts[1], 28, 28, 3)
    assert len(medmnist.labels(flag, "train", folder=medmnist_folder)) == counts[0]
    if expected.ndim == 3:  # grey
        for channel in range(3):
            np.testing.assert_array_equal(images[..., channel], expected)
    else:
        np.testing.assert_array_equal(images, expected)
