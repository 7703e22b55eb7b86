import errno
import fcntl
import os

import numpy as np
import pytest

from braincl_med.foundation import files
from braincl_med.foundation.errors import VaultError
from braincl_med.vault.cuefile import CueFile
from braincl_med.vault.vault import Vault

from .test_cuefile import cue_file


def test_recall_gives_uint8_scans_and_class_numbers(tmp_path):
    vault = Vault(tmp_path / "trial")
    vault.remember(cue_file()[0])
    recalled = vault.recall(0)
    assert recalled.images.shape == (8, 8, 8, 3)
    assert recalled.images.dtype == np.uint8
    assert recalled.labels.tolist() == [0] * 5 + [1] * 3


def test_consolidation_keeps_the_selected_records_and_empties_working_memory(tmp_path):
    vault = Vault(tmp_path)
    file, cues = cue_file()
    vault.remember(file)
    vault.consolidate(0, {0: np.array([4, 1]), 1: np.array([0, 1, 2])})
    kept = vault.load(0)
    assert vault.entry(0).memory == kept.header.memory == "long-term"
    assert np.array_equal(kept.cues(0), cues[0][[1, 4]])
    assert np.array_equal(kept.cues(1), cues[1])
    assert kept.header.shards[0].ordinals == (1, 4)
    assert kept.header.shards[1].ordinals == ()
    assert len(list(tmp_path.glob("*.cue"))) == 1


def test_a_second_consolidation_keeps_the_first_ordinals(tmp_path):
    vault = Vault(tmp_path)
    vault.remember(cue_file()[0])
    vault.consolidate(0, {0: np.array([1, 3, 4]), 1: np.array([0])})
    vault.consolidate(0, {0: np.array([2]), 1: np.array([0])})
    assert vault.load(0).header.shards[0].ordinals == (4,)


def test_selecting_nothing_is_refused_and_changes_nothing(tmp_path):
    vault = Vault(tmp_path)
    vault.remember(cue_file()[0])
    with pytest.raises(VaultError, match="nothing is selected"):
        vault.consolidate(0, {0: np.array([], int), 1: np.array([], int)})
    assert len(vault.recall(0)) == 8


def test_a_file_that_no_reader_would_accept_is_never_committed(tmp_path):
    vault = Vault(tmp_path)
    vault.remember(cue_file()[0])
    file, _ = cue_file(task=1)
    shard = file.header.shards[0].model_copy(update={"records": 2**31})
    header = file.header.model_copy(update={"shards": (shard, file.header.shards[1])})
    with pytest.raises(VaultError, match="symbols are decoded at once"):
        vault.remember(CueFile(header, file.shape, file.tables, file.completion, file.payload))
    assert [e.task for e in vault.manifest().entries] == [0]


def test_an_empty_folder_is_an_empty_vault(tmp_path):
    vault = Vault(tmp_path / "nothing")
    assert vault.manifest().entries == ()
    assert vault.sizes()["records"] == 0
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(VaultError, match="no memory of task 3"):
        vault.load(3)


def test_sizes_are_the_bytes_on_disk(tmp_path):
    vault = Vault(tmp_path)
    vault.remember(cue_file()[0])
    vault.remember(cue_file(task=1)[0])
    sizes = vault.sizes()
    assert sizes.pop("records") == 16
    assert sum(sizes.values()) == sum(p.stat().st_size for p in tmp_path.iterdir() if p.name != ".lock")


def test_a_changed_byte_names_the_file(tmp_path):
    vault = Vault(tmp_path)
    vault.remember(cue_file()[0])
    path = next(tmp_path.glob("*.cue"))
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.raises(VaultError, match=rf"'{path.name}': the checksum does not match"):
        vault.recall(0)


def test_another_valid_cue_file_in_its_place_is_noticed(tmp_path):
    vault = Vault(tmp_path)
    vault.remember(cue_file()[0])
    next(tmp_path.glob("*.cue")).write_bytes(cue_file(seed=5)[0].to_bytes())
    with pytest.raises(VaultError, match="not the file that was committed"):
        vault.recall(0)


def test_a_damaged_manifest_is_noticed(tmp_path):
    vault = Vault(tmp_path)
    vault.remember(cue_file()[0])
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"task":0', '"task":1'))
    with pytest.raises(VaultError, match="checksum"):
        vault.manifest()
    for forged in ("{}", "[" * 10**5, '{"manifest":' * 10**5):
        manifest.write_text(forged)
        with pytest.raises(VaultError, match="not a vault's manifest"):
            vault.manifest()


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    vault = Vault(tmp_path)
    vault.remember(cue_file()[0])
    before = vault.recall(0)

    def full(_):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(VaultError, match="the disk is full"):
        vault.remember(cue_file(task=1)[0])
    monkeypatch.undo()
    assert np.array_equal(vault.recall(0).images, before.images)
    assert not list(tmp_path.glob("*.partial"))
    vault.remember(cue_file(task=1)[0])
    assert len(vault.manifest().entries) == 2


def test_the_second_writer_is_told_who_holds_the_vault(tmp_path):
    vault = Vault(tmp_path)
    vault.remember(cue_file()[0])
    with (tmp_path / ".lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(VaultError, match=f"process {os.getpid()}"):
            vault.remember(cue_file(task=1)[0])


def test_nothing_but_cue_files_manifest_and_lock_is_written(tmp_path):
    vault = Vault(tmp_path)
    vault.remember(cue_file()[0])
    vault.consolidate(0, {0: np.array([0]), 1: np.array([0])})
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"manifest.json", ".lock", vault.entry(0).name}
    assert CueFile.from_bytes((tmp_path / vault.entry(0).name).read_bytes()).records == 2
