import gzip
import json
import os
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braincl_med.foundation.errors import ConfigError, RecordsError, VaultError
from braincl_med.foundation.files import canonical_json, locked, sha256_of
from braincl_med.memory.weights import pack, unpack
from braincl_med.privacy.audit import audit, passed
from braincl_med.privacy.checks.titles import (
    BYTES_CHECK,
    CUES_CHECK,
    FILES_CHECK,
    FIT_CHECK,
    FOLDER_CHECK,
    MANIFEST_CHECK,
    SCANS_CHECK,
)
from braincl_med.privacy.given import GivenScans
from braincl_med.privacy.page import WARNING, html, text
from braincl_med.records.store import RunStore
from braincl_med.streams.tasks import Scans
from braincl_med.vault.cuefile import CueFile, Shard
from braincl_med.vault.erasures import LOG, to_log
from braincl_med.vault.manifest import Entry
from braincl_med.vault.vault import Vault
from tests.privacy.test_search import WAYS, scans
from tests.vault.test_cuefile import KEY, cue_file


@pytest.fixture(autouse=True)
def _for_the_owner_alone():
    """What a test writes into a vault has the permissions that an audit asks for."""
    former = os.umask(0o077)
    yield
    os.umask(former)


@pytest.fixture
def site(tmp_path):
    """A hospital's vault: two tasks of experiment `trial`, the first one consolidated."""
    vault = Vault(tmp_path / "site-0" / "trial")
    vault.remember(cue_file()[0])
    vault.consolidate(0, {0: np.array([0, 3]), 1: np.array([0, 1, 2])})
    vault.remember(cue_file(task=1, seed=1)[0])
    return tmp_path / "site-0"


def failures(folder, given=None):
    """Failed checks of one vault and what they say."""
    (vault,) = audit([folder], given)["vaults"]
    found = {check["check"]: check["detail"] for check in vault["checks"] if not check["passed"]}
    assert vault["passed"] == (not found)
    return found


def cue_of(site, task=0):
    vault = Vault(site / "trial")
    return site / "trial" / vault.entry(task).name


def test_a_clean_vault_passes(site):
    before = {p: p.read_bytes() for p in site.rglob("*") if p.is_file()}
    report = audit([site])
    assert passed(report)
    (vault,) = report["vaults"]
    assert vault["vault"] == "site-0"
    assert vault["experiments"] == ["trial"]
    assert vault["fidelity"] is None
    assert len(vault["checks"]) == 11
    assert json.loads(json.dumps(report)) == report
    file = Vault(site / "trial").load(0)
    assert vault["files"][0] == {
        "file": f"trial/{cue_of(site).name}",
        "stored": "plain",
        "bytes": len(file.to_bytes()),
        "records": 5,
        "bits-per-scan": 8 * len(file.payload) / 5,
        "all-in-bits-per-scan": 8 * len(file.to_bytes()) / 5,
    }
    assert {p: p.read_bytes() for p in site.rglob("*") if p.is_file()} == before


def test_one_experiments_folder_is_a_vault_too(site):
    (vault,) = audit([site / "trial"])["vaults"]
    assert vault["passed"]
    assert vault["vault"] == f"{site.name}/trial"
    assert vault["files"][1]["file"] == cue_of(site, 1).name


def test_two_vaults_are_judged_apart(site, tmp_path):
    Vault(tmp_path / "site-1" / "trial").remember(cue_file(key="1" * 64)[0])
    (tmp_path / "site-1" / "trial" / "notes.txt").write_text("hello")
    report = audit([site, tmp_path / "site-1"])
    assert [v["passed"] for v in report["vaults"]] == [True, False]
    assert not passed(report)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_flipped_byte_anywhere_in_a_cue_file_fails_and_names_it(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("vault") / "trial"
    Vault(folder).remember(cue_file()[0])
    path = next(folder.glob("*.cue"))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    found = failures(folder)
    assert f"'{path.name}'" in found[FILES_CHECK]
    assert f"'{path.name}'" in found[CUES_CHECK]


def test_a_replaced_cue_file_fails(site):
    path = cue_of(site)
    path.write_bytes(cue_file(seed=5)[0].to_bytes())
    assert f"'{path.name}' is not the file that was committed" in failures(site)[FILES_CHECK]


def test_a_deleted_cue_file_fails(site):
    path = cue_of(site)
    path.unlink()
    assert f"'{path.name}' cannot be read" in failures(site)[FILES_CHECK]


def test_a_damaged_or_missing_manifest_fails(site):
    manifest = site / "trial" / "manifest.json"
    content = manifest.read_text()
    manifest.write_text(content.replace('"task":0', '"task":7'))
    assert "'trial/manifest.json' is refused ('manifest.json' was changed" in failures(site)[MANIFEST_CHECK]
    manifest.unlink()
    found = failures(site)
    assert found[MANIFEST_CHECK] == "'trial/manifest.json' is missing"
    assert f"'trial/{next((site / 'trial').glob('*.cue')).name}' is named like a cue file" in found[FOLDER_CHECK]


def test_a_manifest_with_more_in_it_fails(site):
    manifest = site / "trial" / "manifest.json"
    sealed = json.loads(manifest.read_bytes())
    manifest.write_bytes(canonical_json({**sealed, "notes": "0123"}))
    assert "'trial/manifest.json' holds more" in failures(site)[MANIFEST_CHECK]


def test_an_entry_that_contradicts_its_file_fails(site):
    manifest = site / "trial" / "manifest.json"
    body = json.loads(manifest.read_bytes())["manifest"]
    body["entries"][0]["key"] = "other"
    body["entries"][0]["bytes"] = 1
    manifest.write_bytes(canonical_json({"manifest": body, "sha256": sha256_of(canonical_json(body))}))
    detail = failures(site)[FILES_CHECK]
    assert f"'trial/{cue_of(site).name}' has key '{KEY}', expected 'other'" in detail
    assert "has size" in detail


def test_memories_of_another_experiment_fail(site):
    (site / "trial").rename(site / "study")
    assert "has experiment 'trial', expected 'study'" in failures(site)[FILES_CHECK]


def test_a_network_that_is_not_finite_fails(site):
    file, cues = cue_file(task=2)
    completion, coded = unpack(file.completion, file.shape)
    completion.convolutions[0].bias.data[0] = float("nan")
    Vault(site / "trial").remember(CueFile.pack(file.header, cues, file.tables, pack(completion, coded)))
    assert f"'trial/{cue_of(site, 2).name}' does not decode: the completion network" in failures(site)[CUES_CHECK]


def hidden_in_network(file, cues):
    return CueFile.pack(file.header, cues, file.tables, file.completion + bytes(500))


def hidden_in_payload(file, cues):
    shards = (*file.header.shards[:-1], file.header.shards[-1].model_copy(update={"words": 200}))
    header = file.header.model_copy(update={"shards": shards})
    payload = file.payload + bytes(4 * (200 - file.header.shards[-1].words))
    return CueFile(header, file.shape, file.tables, file.completion, payload)


def hidden_in_ordinals(file, cues):
    shards = (file.header.shards[0].model_copy(update={"ordinals": (3, 99, 7, 1, 10)}), file.header.shards[1])
    return CueFile.pack(file.header.model_copy(update={"shards": shards}), cues, file.tables, file.completion)


def hidden_in_classes_without_records(file, cues):
    empty = [Shard(label=label, dataset_label="set/9", records=0, words=0, recall_error=0) for label in range(70, 90)]
    header = file.header.model_copy(update={"shards": (*file.header.shards, *empty)})
    return CueFile.pack(header, {**cues, **{s.label: cues[0][:0] for s in empty}}, file.tables, file.completion)


def hidden_in(**texts):
    def hide(file, cues):
        label = texts.pop("dataset_label", "set/1")
        shards = (file.header.shards[0], file.header.shards[1].model_copy(update={"dataset_label": label}))
        return replace(file, header=file.header.model_copy(update={"shards": shards, **texts}))

    return hide


def planted(folder, file):
    """Put a cue file into a vault and seal its manifest, as a forger would."""
    content, manifest = file.to_bytes(), Vault(folder).manifest()
    digest = sha256_of(content)
    name = f"task-{file.header.task:03}.working.{digest[:8]}.cue"
    entry = Entry(
        name=name, task=file.header.task, memory="working", key=file.header.key, bytes=len(content), sha256=digest
    )
    (folder / name).write_bytes(content)
    (folder / "manifest.json").write_bytes(manifest.with_entry(entry).sealed())


@pytest.mark.parametrize(
    ("hide", "check", "reason"),
    [
        (hidden_in_network, CUES_CHECK, "completion network"),
        (hidden_in_payload, CUES_CHECK, "holds more than its 3 records"),
        (hidden_in_ordinals, FILES_CHECK, "class 0 has ordinals that do not ascend"),
        (hidden_in_classes_without_records, BYTES_CHECK, "has class 70 without records"),
        (hidden_in(dataset_label="Jane Doe, born 1950/1"), BYTES_CHECK, "has dataset_label 'Jane Doe, born 1950/1'"),
        (hidden_in(dataset_label="set"), BYTES_CHECK, "has dataset_label 'set', which no hospital writes"),
        (hidden_in(task_name="Jane Doe"), BYTES_CHECK, "has task_name 'Jane Doe'"),
        (hidden_in(key="Jane Doe"), BYTES_CHECK, "has key 'Jane Doe'"),
        (hidden_in(coder="Jane Doe\x1b[2J"), BYTES_CHECK, r"has coder 'Jane Doe\x1b[2J'"),
    ],
)
def test_what_is_hidden_in_a_well_sealed_cue_file_fails(site, hide, check, reason):
    planted(site / "trial", hide(*cue_file(task=2)))
    found = failures(site)
    assert found.keys() <= {check, CUES_CHECK}
    assert f"'{cue_of(site, 2).name}'" in found[check].replace("trial/", "")
    assert reason in found[check]


@pytest.mark.parametrize("changes", [{"dataset_label": "Jane Doe, born 1950/1"}, {"key": "Jane Doe"}])
def test_what_is_hidden_in_a_well_chained_log_of_erasures_fails(site, changes):
    vault = Vault(site / "trial")
    vault.erase(1, "set/0", [2])
    assert failures(site) == {}
    forged = vault.erase(1, "set/0", [3]).model_copy(update=changes)
    (vault.folder / LOG).write_bytes(to_log([*vault.erasures()[:-1], forged]))
    (vault.folder / "manifest.json").write_bytes(vault.manifest().model_copy(update={"erased": forged}).sealed())
    (what,) = changes
    assert (
        f"'trial/erasures.jsonl' has {what} '{changes[what]}', which no hospital writes"
        in failures(site)[FOLDER_CHECK]
    )


UNKNOWN = {
    "scan.png": (WAYS["png"], "looks like a PNG image"),
    "scan.npy": (WAYS["npy"], "looks like a NumPy array"),
    "scan.npz": (WAYS["npz"], "looks like a zip archive"),
    "scan.dcm": (lambda s: bytes(128) + b"DICM" + s.tobytes(), "looks like a DICOM scan"),
    "scan.nii.gz": (lambda s: gzip.compress(s.tobytes()), "looks like a gzip file"),
    "task-009.working.00000000.cue": (WAYS["raw"], "has no known format and may hold raw pixels"),
    "<b>.png": (WAYS["png"], "looks like a PNG image"),
}


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize("below", ["", "trial", "trial/more", "more"])
def test_a_raw_scan_fails_and_is_named(site, name, below):
    (site / below).mkdir(exist_ok=True)
    make, detail = UNKNOWN[name]
    (site / below / name).write_bytes(make(scans(1)[0]))
    found = failures(site)
    place = f"{below}/{name}".lstrip("/")
    assert f"'{place}' {detail}" in found[SCANS_CHECK]
    assert f"'{place}'" in found[FOLDER_CHECK] or f"'{below}'" in found[FOLDER_CHECK]


def test_given_scans_are_found_even_in_the_lock(tmp_path):
    images, lock = scans(), tmp_path / "trial" / ".lock"
    lock.parent.mkdir()
    lock.write_bytes(b"process 12\n" + WAYS["zlib"](images[4]))
    found = failures(tmp_path, GivenScans(Scans(images, np.zeros(20, np.int64))))
    assert "'trial/.lock' holds something else" in found[FOLDER_CHECK]
    assert "'trial/.lock' holds bytes of 1 of the 20 given scans" in found[SCANS_CHECK]


def test_the_audit_says_how_many_scans_it_searched_for(tmp_path):
    with locked(tmp_path / "trial", "the vault"):
        pass
    images = np.concatenate([scans(18), np.full((2, 28, 28, 3), 7, np.uint8)])
    (vault,) = audit([tmp_path], GivenScans(Scans(images, np.zeros(20, np.int64))))["vaults"]
    detail = next(check["detail"] for check in vault["checks"] if check["check"] == SCANS_CHECK)
    assert detail.endswith("; searched for 18 given scans and found none, 2 more are blank")


def test_what_is_no_file_fails(site, tmp_path):
    trial = site / "trial"
    (trial / "empty").mkdir()
    (trial / "link.cue").symlink_to(tmp_path)
    (site / "elsewhere").symlink_to(tmp_path)
    (trial / ".manifest.json.abc.partial").write_bytes(b"BRAINCUE")
    found = failures(site)
    assert found.keys() == {FOLDER_CHECK}
    for detail in (
        "'trial/empty' is a folder",
        "'trial/link.cue' is a link",
        "'elsewhere' is a link",
        "'trial/.manifest.json.abc.partial' is left over",
    ):
        assert detail in found[FOLDER_CHECK]


def test_a_committed_file_behind_a_link_fails(site, tmp_path):
    path = cue_of(site)
    path.rename(tmp_path / "away.cue")
    path.symlink_to(tmp_path / "away.cue")
    assert f"'trial/{path.name}' is a link" in failures(site)[FOLDER_CHECK]


def test_a_vault_that_nothing_was_committed_to_passes_and_an_empty_folder_does_not(tmp_path):
    with locked(tmp_path / "site-0" / "trial", "the vault"):
        pass
    assert failures(tmp_path / "site-0") == {}
    (tmp_path / "site-1").mkdir()
    assert failures(tmp_path / "site-1").keys() == {MANIFEST_CHECK}


def test_a_vault_being_written_is_not_judged(site):
    with locked(site / "trial", "the vault"), pytest.raises(VaultError, match="'trial' is being written"):
        audit([site])
    assert passed(audit([site]))


@pytest.mark.parametrize("done", [False, True])
def test_a_vault_that_is_written_while_it_is_read_is_not_judged(site, monkeypatch, done):
    load = Vault.load_entry
    with ExitStack() as writing:

        def load_slowly(vault, entry):
            if entry.task == 1 and done:
                vault.erase(0, "set/0", [0])
            elif entry.task == 1:
                writing.enter_context(locked(site / "trial", "the vault"))
            return load(vault, entry)

        monkeypatch.setattr(Vault, "load_entry", load_slowly)
        with pytest.raises(VaultError, match="'trial' is being written: audit it when that is done"):
            audit([site])
    monkeypatch.undo()
    assert passed(audit([site]))


def test_a_missing_folder_or_a_state_root_is_refused(tmp_path):
    with pytest.raises(VaultError, match="no folder 'site-9'") as raised:
        audit([tmp_path / "site-9"])
    assert str(tmp_path) not in str(raised.value)
    RunStore(tmp_path, create=True)
    with pytest.raises(VaultError, match="is a state root"):
        audit([tmp_path])


def test_scans_of_none_of_several_vaults_are_refused(site, tmp_path):
    Vault(tmp_path / "site-1" / "trial").remember(cue_file()[0])
    given = GivenScans(Scans.none(8))
    with pytest.raises(ConfigError, match="audit that vault alone"):
        audit([site, tmp_path / "site-1"], given)
    found = failures(site, GivenScans(Scans.none(8), experiment="other"))
    assert found == {FIT_CHECK: "they are those of experiment 'other', which is not here"}


def test_the_page_holds_every_failing_detail_escaped(site):
    (site / "<b>.png").write_bytes(WAYS["png"](scans(1)[0]))
    cue_of(site, 1).write_bytes(b"x")
    report = audit([site])
    page, lines = html(report, "today"), text(report)
    assert "<b>" not in page
    assert "&lt;b&gt;.png" in page
    assert WARNING in page
    assert WARNING in lines
    plain = page.replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">")
    for check in report["vaults"][0]["checks"]:
        assert check["detail"] in plain
        assert check["detail"] in lines
    assert lines.splitlines()[1].startswith("  FAILED")
    assert "http" not in page


def test_the_command_records_writes_and_says_by_its_exit_status(site, tmp_path):
    from typer.testing import CliRunner

    from apps.cli.main import app

    os.umask(0o022)
    call = CliRunner().invoke
    store = RunStore(tmp_path, create=True)
    done = call(app, ["audit", str(site), "--out", str(tmp_path / "report"), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.output) == json.loads((tmp_path / "report" / "audit.json").read_text())
    assert store.last_audit().passed
    assert store.last_audit().report == json.loads(done.output)
    assert "passed" in (tmp_path / "report" / "audit.html").read_text()
    assert [p.stat().st_mode & 0o040 for p in (tmp_path / "report").iterdir()] == [0o040] * 2, "it is for others"

    cue_of(site).unlink()
    done = call(app, ["audit", str(site / "trial")])
    assert done.exit_code == 1
    assert "FAILED" in done.output
    assert not store.last_audit().passed

    other = RunStore(tmp_path / "elsewhere", create=True)
    assert call(app, ["audit", str(site), "--state", str(tmp_path / "elsewhere")]).exit_code == 1
    assert not other.last_audit().passed
    refused = call(app, ["audit", str(site), "--out", str(site / "report")])
    assert isinstance(refused.exception, ConfigError)


@pytest.mark.parametrize("sound", [True, False])
def test_an_audit_that_cannot_be_recorded_is_printed_and_says_so_by_its_exit_status(
    site, tmp_path, monkeypatch, sound
):
    from typer.testing import CliRunner

    from apps.cli.main import app

    RunStore(tmp_path, create=True)
    if not sound:
        cue_of(site).unlink()

    def read_only(self, passed, report):
        raise RecordsError("'runs.sqlite' cannot be used: attempt to write a readonly database")

    monkeypatch.setattr(RunStore, "record_audit", read_only)
    done = CliRunner().invoke(app, ["audit", str(site), "--json"])
    assert done.exit_code == (3 if sound else 1)
    assert [vault["passed"] for vault in json.loads(done.stdout)["vaults"]] == [sound]
    assert done.stderr.count("\n") == 1
    assert "could not be kept: 'runs.sqlite' cannot be used" in done.stderr
