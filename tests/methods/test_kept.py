import hashlib
import os

import numpy as np
import pytest

from braincl_med.foundation.errors import VaultError
from braincl_med.methods.kept import Kept

ARRAYS = {"labels": np.arange(3, dtype=np.int64), "scans": np.arange(6, dtype=np.uint8).reshape(2, 3)}


@pytest.fixture
def former(tmp_path):
    """A folder as it was: one file of the former suffix."""
    Kept(tmp_path).save("exemplars", 0, ARRAYS)
    os.rename(tmp_path / "exemplars-0.kept", tmp_path / "exemplars-0.safetensors")
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_bytes_of_a_kept_file_stay(tmp_path):
    Kept(tmp_path).save("exemplars", 3, ARRAYS)
    content = (tmp_path / "exemplars-3.kept").read_bytes()
    assert content[:8] == b"BCLKEPT\x01"
    assert content[8:40] == hashlib.sha256(content[40:]).digest()
    assert hashlib.sha256(content).hexdigest() == "98df7a005318c5f392b7c27320e92e5bf5b9a4f14da64abc25064644be8b7d14"


def test_a_file_of_the_former_suffix_is_read_counted_and_deleted(former):
    kept = Kept(former)
    assert np.array_equal(kept.load("exemplars", 0)["scans"], ARRAYS["scans"])
    assert kept.tasks("exemplars") == [0]
    assert kept.sizes() == {"exemplars": (former / "exemplars-0.safetensors").stat().st_size}
    kept.forget("exemplars", 0)
    assert kept.load("exemplars", 0) is None
    assert names(former) == []


def test_a_folder_may_hold_both_and_a_save_replaces_the_former_file(former):
    kept = Kept(former)
    kept.save("exemplars", 1, ARRAYS)
    assert kept.tasks("exemplars") == [0, 1]
    kept.save("exemplars", 0, {"labels": np.zeros(1, np.int64)})
    assert names(former) == ["exemplars-0.kept", "exemplars-1.kept"]
    assert list(kept.load("exemplars", 0)) == ["labels"]


def test_of_two_files_of_a_task_the_newer_suffix_counts_and_the_task_is_listed_once(former):
    content = (former / "exemplars-0.safetensors").read_bytes()
    kept = Kept(former)
    kept.save("exemplars", 0, {"labels": np.zeros(1, np.int64)})
    (former / "exemplars-0.safetensors").write_bytes(content)  # as a crash after the write leaves it
    assert list(kept.load("exemplars", 0)) == ["labels"]
    assert kept.tasks("exemplars") == [0]
    assert kept.sizes()["exemplars"] == sum(path.stat().st_size for path in former.iterdir())
    kept.forget("exemplars", 0)
    assert names(former) == []


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "exemplars-0.kept").mkdir()
    with pytest.raises(VaultError, match=r"^'exemplars-0.kept' cannot be read: is a directory$"):
        Kept(tmp_path).load("exemplars", 0)
