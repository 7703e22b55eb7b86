import json
import os
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from apps.cli.main import app
from braincl_med.foundation.errors import ConfigError, VaultError
from braincl_med.foundation.files import LOCK_NAME, locked
from braincl_med.privacy.audit import audit, passed
from braincl_med.privacy.checks.titles import FOLDER_CHECK
from braincl_med.vault.erasures import LOG, Erasure, from_log, to_log
from braincl_med.vault.subset import ordinals_of
from braincl_med.vault.vault import Vault
from braincl_med.vault.verify import verify

from .test_cuefile import KEY, cue_file


@pytest.fixture(autouse=True)
def _no_power_cuts(monkeypatch):
    """No test cuts the power, so nothing has to wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(autouse=True)
def _for_the_owner_alone():
    """What a test writes into a vault has the permissions that an audit asks for."""
    former = os.umask(0o077)
    yield
    os.umask(former)


@pytest.fixture
def vault(tmp_path):
    """A hospital's memories of one experiment: 40 and 30 records of task 0, 5 and 3 of task 1."""
    vault = Vault(tmp_path / "site-0" / "trial")
    vault.remember(cue_file(records=(40, 30))[0])
    vault.remember(cue_file(task=1, seed=1)[0])
    return vault


def held(vault, task=0):
    """Each class's ordinals."""
    return {shard.dataset_label: list(ordinals_of(shard)) for shard in vault.load(task).header.shards}


def contents(vault):
    return b"".join(path.read_bytes() for path in vault.folder.iterdir())


def is_sound(vault):
    return all(finding.sound for finding in verify(vault)) and passed(audit([vault.folder]))


def test_erased_records_are_not_recalled_and_the_others_are_as_before(vault):
    before = vault.recall(0)
    vault.erase(0, "set/0", [3, 39, 0])
    after = vault.recall(0)
    kept = [i for i in range(70) if i not in (0, 3, 39)]
    assert np.array_equal(after.images, before.images[kept])
    assert np.array_equal(after.labels, before.labels[kept])
    assert held(vault) == {"set/0": [i for i in range(40) if i not in (0, 3, 39)], "set/1": list(range(30))}
    assert vault.entry(0).memory == "working"
    assert is_sound(vault)


@pytest.mark.parametrize("ordinals", [None, [7]])
def test_the_bytes_of_what_was_erased_are_gone_from_the_folder(vault, ordinals):
    file = vault.load(0)
    name, words = vault.entry(0).name, file.header.shards[0].words
    coded = file.payload[: 4 * words]
    assert coded in contents(vault)
    vault.erase(0, "set/0", ordinals)
    # Words behind the first erased record are coded anew; the coder's few words before it may stay alike.
    assert all(coded[i : i + 16] not in contents(vault) for i in range(16, len(coded) - 16))
    assert not (vault.folder / name).exists()


def test_a_task_of_which_nothing_remains_leaves_the_vault(vault):
    vault.erase(1, "set/0")
    assert list(held(vault, 1)) == ["set/1"]
    erasure = vault.erase(1, "set/1", [0, 1, 2])
    assert erasure.after == ""
    assert [e.task for e in vault.manifest().entries] == [0]
    assert len(list(vault.folder.glob("*.cue"))) == 1
    vault.erase(0, "set/0")
    vault.erase(0, "set/1")
    assert vault.manifest().entries == ()
    assert {p.name for p in vault.folder.iterdir()} == {"manifest.json", LOCK_NAME, LOG}
    assert is_sound(vault)


def test_ordinals_and_recalls_stay_right_however_often_records_leave(tmp_path):
    for seed in range(8):
        chance = random.Random(seed)
        vault = Vault(tmp_path / str(seed) / "trial")
        vault.remember(cue_file(records=(12, 9))[0])
        recalls = vault.recall(0).images
        expected = {"set/0": list(range(12)), "set/1": list(range(9))}
        first = {"set/0": 0, "set/1": 12}
        while expected:
            if chance.random() < 0.3:
                kept = {
                    label: sorted(chance.sample(range(len(o)), chance.randint(1, len(o))))
                    for label, o in expected.items()
                }
                positions = {int(label[-1]): np.array(kept[label]) for label in expected}
                vault.consolidate(0, positions)
                expected = {label: [expected[label][i] for i in kept[label]] for label in expected}
            else:
                label = chance.choice(list(expected))
                gone = set(chance.sample(expected[label], min(chance.randint(1, 3), len(expected[label]))))
                vault.erase(0, label, gone)
                expected[label] = [o for o in expected[label] if o not in gone]
                expected = {label: o for label, o in expected.items() if o}
            if expected:
                assert held(vault) == expected
                places = [first[label] + o for label, ordinals in expected.items() for o in ordinals]
                assert np.array_equal(vault.recall(0).images, recalls[places])
                assert is_sound(vault)
        assert vault.manifest().entries == ()


def test_what_is_not_there_is_refused_with_what_is_there(vault):
    vault.erase(1, "set/0", [1])
    before = contents(vault)
    for arguments, reason in {
        (1, "set/0", (1,)): "task 1 holds no record 1 of class 'set/0': it holds 0, 2, 3, 4",
        (1, "set/0", (0, 9)): "task 1 holds no record 9 of class 'set/0': it holds 0, 2, 3, 4",
        (1, "set/7"): "task 1 holds no class 'set/7': it holds set/0, set/1",
        (5, "set/0"): "the vault holds no memory of task 5",
    }.items():
        with pytest.raises(VaultError, match=f"^{re.escape(reason)}$"):
            vault.erase(*arguments)
    assert contents(vault) == before


def test_a_task_encoded_anew_does_not_bring_back_what_was_erased(vault):
    vault.erase(1, "set/0", [2])
    with pytest.raises(VaultError, match=r"records of class 'set/0' were erased from task 1 on .* would come back"):
        vault.remember(cue_file(task=1, seed=1)[0])
    vault.erase(1, "set/1")
    vault.erase(1, "set/0")
    with pytest.raises(VaultError, match="would come back"):
        vault.remember(cue_file(task=1, seed=1)[0])
    file = cue_file(task=1, seed=1)[0]
    vault.remember(replace(file, header=file.header.model_copy(update={"key": "another experiment"})))
    assert vault.load(1).records == 8


def test_a_selection_made_before_an_erasure_is_not_applied_to_records_that_are_not_there(vault):
    vault.erase(1, "set/0", [1])
    with pytest.raises(VaultError, match="the vault holds 4: some were erased meanwhile"):
        vault.consolidate(1, {0: np.array([0, 4]), 1: np.array([0])})


def test_a_network_stays_as_it_was(vault):
    before = vault.load(0).network().state_dict()
    vault.erase(0, "set/1")
    after = vault.load(0).network().state_dict()
    assert all((after[name] == tensor).all() for name, tensor in before.items())


@pytest.fixture
def log(vault):
    """The path of a log of three erasures."""
    for ordinal in (1, 2, 3):
        vault.erase(0, "set/0", [ordinal])
    assert is_sound(vault)
    return vault.folder / LOG


def without(number):
    return lambda lines: lines[:number] + lines[number + 1 :]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without(0), "line 1 does not follow"),
        (without(1), "line 2 does not follow"),
        (lambda lines: lines[:1], "ends with line 1, which is not the manifest's last"),
        (lambda lines: [], "ends with line 0, which is not the manifest's last"),
        (lambda lines: [*lines, lines[-1]], "line 4 does not follow"),
        (lambda lines: [lines[0].replace(b"[1]", b"[7]"), *lines[1:]], "line 2 does not follow"),
        (lambda lines: [*lines[:2], lines[2].replace(b"[3]", b"[7]")], "not the manifest's last"),
        (lambda lines: [lines[0], b"{}\n", *lines[1:]], "line 2 is no erasure"),
        (lambda lines: [b"\xff\x00" * 50 + b"\n"], "line 1 is no erasure"),
        (lambda lines: [*lines[:2], lines[2].replace(b",", b", ", 1)], "holds more than erasures"),
        (lambda lines: [*lines[:2], lines[2].rstrip()], "holds more than erasures"),
    ],
)
def test_a_changed_log_is_noticed_by_verify_and_audit_and_stops_writers(vault, log, change, reason):
    log.write_bytes(b"".join(change(log.read_bytes().splitlines(keepends=True))))
    bad = [finding for finding in verify(vault) if not finding.sound]
    assert [finding.what for finding in bad] == ["erasures"]
    assert reason in bad[0].detail
    (checked,) = audit([vault.folder])["vaults"]
    assert reason in next(c["detail"] for c in checked["checks"] if c["check"] == FOLDER_CHECK)
    with pytest.raises(VaultError, match=re.escape(reason)):
        vault.erase(0, "set/0", [5])
    assert vault.recall(0).labels.shape == (67,)


def test_the_last_line_is_restored_when_it_is_missing(vault, log):
    whole = log.read_bytes()
    log.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    assert len(vault.erasures()) == 3
    assert is_sound(vault)
    vault.remember(cue_file(task=2)[0])
    assert log.read_bytes() == whole


def test_the_log_of_another_vault_is_noticed(vault, tmp_path):
    (vault.folder / LOG).write_bytes(b"")
    assert is_sound(vault)
    other = Vault(tmp_path / "other")
    other.remember(cue_file()[0])
    other.erase(0, "set/0", [0])
    (vault.folder / LOG).write_bytes((other.folder / LOG).read_bytes())
    assert not is_sound(vault)


def test_a_log_says_who_when_how_many_and_what_stood_before_and_after(vault):
    before = vault.entry(0).sha256
    erasure = vault.erase(0, "set/1")
    assert erasure == from_log((vault.folder / LOG).read_bytes(), erasure)[0]
    assert erasure == Erasure(
        time=erasure.time,
        task=0,
        key=KEY,
        dataset_label="set/1",
        records=30,
        before=before,
        after=vault.entry(0).sha256,
        previous="",
    )
    assert to_log([erasure]).count(b"\n") == 1


def test_a_lost_manifest_is_not_an_empty_vault(vault):
    files = {p.name for p in vault.folder.glob("*.cue")}
    (vault.folder / "manifest.json").unlink()
    with pytest.raises(VaultError, match=r"'manifest.json' is missing but what it commits is there"):
        vault.remember(cue_file(task=4)[0])
    assert {p.name for p in vault.folder.glob("*.cue")} == files
    (finding,) = verify(vault)
    assert not finding.sound
    assert "'manifest.json' is missing" in finding.detail


def braincl(*arguments, answer=None):
    return CliRunner().invoke(app, ["vault", *map(str, arguments)], input=answer)


def test_list_shows_every_task_with_its_classes_and_bytes(vault):
    vault.consolidate(0, {0: np.arange(20), 1: np.arange(5, 15)})
    site = vault.folder.parent
    rows = json.loads(braincl("list", site, "--json").output)
    assert [(r["vault"], r["experiment"], r["task"], r["memory"]) for r in rows] == [
        ("site-0", "trial", 0, "long-term"),
        ("site-0", "trial", 1, "working"),
    ]
    assert rows[0]["classes"][1] == {
        "label": 1,
        "dataset-label": "set/1",
        "records": 10,
        "ordinals": list(range(5, 15)),
    }
    assert [sum(r["bytes"].values()) for r in rows] == [e.bytes for e in vault.manifest().entries]
    lines = braincl("list", vault.folder).output.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("site-0/trial     0  task-0  long-term       30")
    assert lines[1].endswith("set/0 (20), set/1 (10)")


def test_verify_names_each_file_that_cannot_be_read(vault):
    site = vault.folder.parent
    done = braincl("verify", site)
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "site-0/trial: task 0 (working): readable, 70 records, plain",
        "site-0/trial: task 1 (working): readable, 8 records, plain",
    ]
    path = vault.folder / vault.entry(1).name
    path.write_bytes(path.read_bytes()[:-1])
    done = braincl("verify", site)
    assert done.exit_code == 1
    assert "readable, 70 records, plain" in done.output
    assert f"site-0/trial: task 1 (working): NOT SOUND: '{path.name}': the file has" in done.output
    assert "problem" in json.loads(braincl("list", site, "--json").output)[1]
    assert path.name in braincl("list", site).output


def test_verify_names_a_file_that_is_committed_but_does_not_decode(vault):
    file, _ = cue_file(task=1)
    vault.remember(replace(file, payload=b"\xff" * len(file.payload)))
    done = braincl("verify", vault.folder)
    assert done.exit_code == 1
    assert f"'{vault.entry(1).name}' does not decode: " in done.output


def test_verify_goes_on_while_another_process_writes_and_changes_nothing(vault):
    before = {p.name: p.read_bytes() for p in vault.folder.iterdir()}
    with locked(vault.folder, "the vault"):
        assert braincl("verify", vault.folder).exit_code == 0
    before[LOCK_NAME] = (vault.folder / LOCK_NAME).read_bytes()
    assert {p.name: p.read_bytes() for p in vault.folder.iterdir()} == before


def test_erase_asks_and_does_nothing_without_a_yes(vault):
    before = contents(vault)
    asked = braincl("erase", vault.folder, "--class", "set/0", answer="n\n")
    assert asked.exit_code == 1
    assert "40 records of class 'set/0' in task 0 of 'trial'" in asked.output
    assert contents(vault) == before
    assert braincl("erase", vault.folder, "--class", "set/0", answer="y\n").exit_code == 0
    assert list(held(vault, 0)) == list(held(vault, 1)) == ["set/1"]


def test_erase_warns_where_what_stays_gives_away_what_was_erased(vault):
    site, warning = vault.folder.parent, "warning: task {} of '{}' would keep {}; where fewer than 100 stay"
    large = Vault(site / "study")
    large.remember(cue_file(records=(100, 30), experiment="study")[0])
    asked = braincl("erase", site, "--class", "set/1", answer="n\n")
    assert warning.format(0, "trial", "40 records") in asked.stderr
    assert warning.format(1, "trial", "5 records") in asked.stderr
    assert "study" not in asked.stderr
    records = [part for ordinal in range(29) for part in ("--record", f"set/1:{ordinal}")]
    both = braincl("erase", large.folder, "--task", 0, *records, "--record", "set/0:0", "--yes")
    assert both.exit_code == 0
    assert both.stderr == ""
    last = braincl("erase", large.folder, "--task", 0, "--record", "set/1:29", "--yes")
    assert warning.format(0, "study", "99 records") in last.stderr
    # Of a task that leaves nothing stays.
    assert braincl("erase", large.folder, "--class", "set/0", "--yes").stderr == ""


def test_erase_takes_a_class_of_every_task_and_experiment_or_records_of_one(vault):
    other = Vault(vault.folder.parent / "study")
    other.remember(cue_file(experiment="study")[0])
    site = vault.folder.parent
    assert isinstance(braincl("erase", site, "--task", 0, "--record", "set/0:1", "--yes").exception, VaultError)
    records = ("--record", "set/0:1", "--record", "set/0:4", "--record", "set/1:0")
    assert braincl("erase", vault.folder, "--task", 1, *records, "--yes").exit_code == 0
    assert held(vault, 1) == {"set/0": [0, 2, 3], "set/1": [1, 2]}
    assert [e.ordinals for e in vault.erasures()] == [(1, 4), (0,)]
    done = braincl("erase", site, "--class", "set/1", "--yes")
    assert len(done.stdout.splitlines()) == 3
    assert list(held(vault, 0)) == list(held(vault, 1)) == list(held(other)) == ["set/0"]
    assert braincl("verify", site).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        ([], ConfigError, "what to erase is unclear"),
        (["--class", "set/0", "--record", "set/0:1"], ConfigError, "unclear"),
        (["--record", "set/0:1"], ConfigError, "unclear"),
        (["--class", "set/9"], VaultError, r"the vault holds no class 'set/9': it holds set/0 \(task 0 of 'trial'\)"),
        (["--class", "set/0", "--task", "4"], VaultError, "task 4 holds no class 'set/0': it holds none"),
        (["--task", "0", "--record", "set/0"], VaultError, "'set/0' names no record"),
        (["--task", "0", "--record", "set/0:1", "--record", "set/1:99"], VaultError, "no record 99"),
        (["--task", "4", "--record", "set/0:1"], VaultError, "no memory of task 4"),
    ],
)
def test_an_unclear_or_impossible_request_is_refused_and_nothing_is_erased(vault, arguments, error, reason):
    before = contents(vault)
    done = braincl("erase", vault.folder, *arguments, "--yes")
    assert type(done.exception) is error
    assert re.search(reason, str(done.exception))
    assert contents(vault) == before


def test_folders_without_memories_are_refused(tmp_path):
    for command in ("list", "verify"):
        assert "no folder 'nothing'" in str(braincl(command, tmp_path / "nothing").exception)
        assert "holds no experiment's memories" in str(braincl(command, tmp_path).exception)


def test_a_selection_made_before_an_erasure_is_refused(tmp_path):
    vault = Vault(tmp_path)
    vault.remember(cue_file()[0])
    chosen_in = vault.entry(0).sha256
    vault.erase(0, "set/0", [1])
    with pytest.raises(VaultError, match="were erased while others were selected"):
        vault.consolidate(0, {0: np.array([0]), 1: np.array([0])}, chosen_in)
    assert vault.load(0).header.memory == "working"
    vault.consolidate(0, {0: np.array([0]), 1: np.array([0])}, vault.entry(0).sha256)
