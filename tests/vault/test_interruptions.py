"""A vault loses nothing: kills, full disks, read-only folders, two processes, a clock that goes back."""

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from apps.cli.main import app
from braincl_med.foundation.errors import LockedError
from braincl_med.foundation.files import PARTIAL_SUFFIX
from braincl_med.vault.erasures import LOG, to_log
from braincl_med.vault.keys import NO_KEYS
from braincl_med.vault.vault import Vault
from braincl_med.vault.verify import verify

from . import interruptions as child
from .test_cuefile import cue_file


@pytest.fixture(autouse=True)
def _no_power_cuts(monkeypatch):
    """No test cuts the power, so nothing has to wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A vault of two tasks and one erasure; to be copied."""
    folder = tmp_path_factory.mktemp("filled") / "trial"
    child.fill(Vault(folder))
    return folder


def state(folder, keys=NO_KEYS):
    """All that a reader sees: each task's memory, ordinals and recalls, and what was erased."""
    vault = Vault(folder, keys)
    tasks = {
        entry.task: (
            entry.memory,
            [(shard.label, shard.records, shard.ordinals) for shard in vault.load(entry.task).header.shards],
            vault.recall(entry.task).images.tobytes(),
        )
        for entry in vault.manifest().entries
    }
    return tasks, [(e.task, e.dataset_label, e.ordinals) for e in vault.erasures()]


def assert_sound(folder, keys=NO_KEYS):
    """Every committed task is readable, and verify says so."""
    findings = verify(Vault(folder, keys))
    assert all(finding.sound for finding in findings), findings
    readable = [finding.what.split()[1] for finding in findings if finding.what.startswith("task")]
    assert readable == [str(entry.task) for entry in Vault(folder).manifest().entries]


def assert_the_next_write_clears(folder, keys=NO_KEYS):
    """After the next write there is nothing but what is committed, and the whole log."""
    vault = Vault(folder, keys)
    vault.remember(cue_file(task=7, seed=7)[0])
    committed = {name for entry in vault.manifest().entries for name in entry.names}
    erasures = vault.erasures()
    assert {p.name for p in folder.iterdir()} == {"manifest.json", ".lock", *committed, *([LOG] if erasures else [])}
    assert not erasures or (folder / LOG).read_bytes() == to_log(erasures)


@pytest.mark.parametrize("mode", ["kill", "full-once", "full"])
@pytest.mark.parametrize("operation", child.OPERATIONS)
def test_an_interruption_at_any_step_leaves_the_state_before_or_after(filled, tmp_path, operation, mode):
    whole = shutil.copytree(filled, tmp_path / "whole" / "trial")
    child.OPERATIONS[operation](Vault(whole))
    before, after = state(filled), state(whole)
    assert before != after
    seen, ended = [], []
    for at in range(1, 100):
        folder = shutil.copytree(filled, tmp_path / str(at) / "trial")
        ended.append(child.carry_out(operation, folder, at, mode))
        if ended[-1] == child.UNDISTURBED:
            break
        seen.append(state(folder))
        assert seen[-1] in (before, after), at
        assert_sound(folder)
        assert_the_next_write_clears(folder)
    else:
        pytest.fail("the operation has no end")
    assert at > 12
    assert set(ended[:-1]) <= ({child.KILLED} if mode == "kill" else {child.REFUSED, child.FINISHED})
    # Replacing the manifest is the one moment of change: whatever fails before undoes, whatever fails later does not.
    done = [s == after for s, end in zip(seen, ended, strict=False) if end != child.FINISHED]
    assert done == sorted(done)
    assert all(s == after for s, end in zip(seen, ended, strict=False) if end == child.FINISHED)
    assert not done[0]
    assert done[-1]


@pytest.mark.parametrize(
    ("operation", "mode"),
    [("erase", "kill"), ("seal", "kill")],
)
def test_so_does_one_in_a_sealed_vault(filled, tmp_path, operation, mode):
    begun = shutil.copytree(filled, tmp_path / "begun" / "trial")
    Vault(begun).seal(child.SEALED)
    whole = shutil.copytree(begun, tmp_path / "whole" / "trial")
    child.ON_SEALED[operation](Vault(whole, child.SEALED))
    keys_after = child.ROTATED if operation == "seal" else child.SEALED
    before, after = state(begun, child.SEALED), state(whole, keys_after)
    assert (before == after) == (operation == "seal")
    ids, outcomes = {child.SEALED.vault.id: child.SEALED, child.ROTATED.vault.id: child.ROTATED}, []
    for at in range(1, 100):
        folder = shutil.copytree(begun, tmp_path / str(at) / "trial")
        ended = child.carry_out(operation, folder, at, mode, child.SEALED)
        if ended == child.UNDISTURBED:
            break
        (found,) = {entry.seal.key for entry in Vault(folder).manifest().entries}
        outcomes.append((found, state(folder, ids[found])))
        assert outcomes[-1] in ((child.SEALED.vault.id, before), (keys_after.vault.id, after)), at
        assert_sound(folder, ids[found])
        assert_the_next_write_clears(folder, ids[found])
    assert 14 < at < 99
    assert (child.SEALED.vault.id, before) in outcomes
    assert (keys_after.vault.id, after) in outcomes


@pytest.mark.parametrize("mode", ["kill", "full"])
def test_the_first_write_may_be_interrupted_too(tmp_path, mode):
    for at in range(1, 100):
        folder = tmp_path / str(at) / "trial"
        ended = child.carry_out("remember", folder, at, mode)
        assert len(Vault(folder).manifest().entries) in (0, 1)
        if folder.exists():
            assert_sound(folder)
        assert_the_next_write_clears(folder)
        if ended == child.UNDISTURBED:
            break
    assert 12 < at < 99


def test_an_erasure_that_a_kill_kept_out_of_the_log_is_known_and_logged_by_the_next_write(filled, tmp_path):
    pending = 0
    for at in range(12, 40):
        folder = shutil.copytree(filled, tmp_path / str(at) / "trial")
        child.carry_out("erase", folder, at, "kill")
        vault = Vault(folder)
        logged = len((folder / LOG).read_bytes().splitlines())
        if logged < len(vault.erasures()):
            pending += 1
            assert logged == 1
            assert vault.erasures()[-1].ordinals == (0, 3)
            assert vault.load(0).header.shards[0].ordinals == (1, 2, 4)
            vault.remember(cue_file(task=7)[0])
            assert len((folder / LOG).read_bytes().splitlines()) == 2
    assert pending >= 3


def test_an_interrupted_erasure_is_finished_when_it_is_asked_for_again(filled, tmp_path):
    before, unfinished = state(filled), 0
    for at in range(12, 40):
        folder = shutil.copytree(filled, tmp_path / str(at) / "trial")
        child.carry_out("erase", folder, at, "kill")
        if state(folder) == before:
            continue
        unfinished += len(list(folder.glob("*.cue"))) > 2
        asked = ["vault", "erase", str(folder), "--task", "0", "--record", "set/0:0", "--yes"]
        assert "task 0 holds no record 0 of class 'set/0'" in str(CliRunner().invoke(app, asked).exception)
        assert len(list(folder.glob("*.cue"))) == 2
        assert (folder / LOG).read_bytes() == to_log(Vault(folder).erasures())
    assert unfinished


def test_a_limit_of_the_system_on_files_is_a_full_disk(filled, tmp_path):
    folder = shutil.copytree(filled, tmp_path / "trial")
    before = state(folder)
    for operation in child.OPERATIONS:
        answer = child.said(child.operate_with_small_files_only, operation, folder, 200)
        assert "the disk is full" in answer
        assert state(folder) == before
    assert_sound(folder)
    assert not [p for p in folder.iterdir() if p.name.endswith(PARTIAL_SUFFIX)]


def test_a_read_only_folder_is_read_and_verified_but_not_written(filled):
    with tempfile.TemporaryDirectory() as root:
        folder = shutil.copytree(filled, Path(root) / "trial")
        before = {p.name: p.read_bytes() for p in folder.iterdir()}
        for path in (Path(root), folder):
            path.chmod(0o555)
        for path in folder.iterdir():
            path.chmod(0o444)
        try:
            readable = child.said(child.operate_without_privileges, "", folder)
            assert readable == [
                "readable, 8 records, plain",
                "readable, 2 records, plain",
                "1 logged, every line follows from the one above",
            ]
            for operation in child.OPERATIONS:
                answer = child.said(child.operate_without_privileges, operation, folder)
                assert answer.endswith("cannot be written: the folder is read-only for this user")
                assert root not in answer
            assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
        finally:
            for path in (Path(root), folder):
                path.chmod(0o755)


def test_the_second_process_is_told_who_writes_and_goes_on_when_that_is_killed(filled, tmp_path):
    folder = shutil.copytree(filled, tmp_path / "trial")
    before = state(folder)
    first = child.stopped_while_writing(folder)
    try:
        assert [p for p in folder.iterdir() if p.name.endswith(PARTIAL_SUFFIX)]
        for change in child.OPERATIONS.values():
            with pytest.raises(LockedError, match=rf"is being written by process {first.pid}: wait"):
                change(Vault(folder))
        assert_sound(folder)
        assert state(folder) == before
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.join()
    assert_the_next_write_clears(folder)
    assert_sound(folder)


def test_readers_get_on_with_a_writer(tmp_path):
    folder = tmp_path / "trial"
    Vault(folder).remember(cue_file()[0])
    writer, times = child.write_again_and_again(folder, 250), 0
    while writer.is_alive():
        assert Vault(folder).sizes()["records"] == 8
        assert_sound(folder)
        times += 1
    assert writer.exitcode == 0
    assert times > 20


def test_a_clock_that_goes_back_changes_nothing(filled, tmp_path, monkeypatch):
    folder = shutil.copytree(filled, tmp_path / "trial")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    vault = Vault(folder)
    vault.erase(0, "set/0", [2])
    vault.consolidate(0, {0: child.np.array([0, 1]), 1: child.np.array([0])})
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    vault.remember(cue_file(task=2)[0])
    assert [e.time[:4] for e in vault.erasures()][-1] == "1970"
    assert vault.erasures()[0].time > vault.erasures()[1].time
    assert vault.load(0).header.shards[0].ordinals == (0, 1)
    assert_sound(folder)
