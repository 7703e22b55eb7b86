"""What was hidden where it was not found before: each plant fails the audit, which names it with its place."""

import base64
import gzip
import os
import shutil
import sqlite3

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import tests.small_backbone  # noqa: F401
from apps.cli.main import app
from braincl_med.federation.local import run_locally
from braincl_med.foundation.errors import DataError
from braincl_med.foundation.files import sha256_of
from braincl_med.memory.coding import FrequencyTables
from braincl_med.memory.networks import MemoryShape, PatternCompletion
from braincl_med.memory.weights import pack, round_weights
from braincl_med.privacy.audit import audit, passed
from braincl_med.privacy.checks import state as below
from braincl_med.privacy.checks import titles
from braincl_med.privacy.checks.identifiers import Identifiers, read_identifiers
from braincl_med.privacy.given import export_scans, load_scans
from braincl_med.settings.loading import load_experiment
from braincl_med.vault.cuefile import CueFile
from braincl_med.vault.manifest import Entry
from braincl_med.vault.vault import Vault

SETTINGS = """
name: tiny
stream: {name: phantom, task-count: 2, train-per-class: 12, test-per-class: 4}
federation: {hospitals: 2}
memory: {guidance: 0}
cortex: {stem: imagenet, network: small-512}
wake: {enabled: false}
selection: {per-class: 12}
sleep: {enabled: false}
"""
NAMES = Identifiers(("Jane Doe", "4711-0815-23"))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A state root after a run of two hospitals, and the raw scans of site-0."""
    root = tmp_path_factory.mktemp("ran")
    config = load_experiment(SETTINGS, {"state-root": str(root / "state")})
    run_locally(config)
    export_scans(config, 0, root / "scans.npz")
    return root / "state", load_scans(root / "scans.npz")


@pytest.fixture
def state(ran, tmp_path):
    """A copy of it, to plant in."""
    return shutil.copytree(ran[0], tmp_path / "state")


def failures(state, given=None, sites=("site-0",), identifiers=NAMES, keys_of_run=True):
    """Failed checks and what they say, of vaults and of all that lies beside them."""
    report = audit([state / s for s in sites], given, identifiers=identifiers, state=state if keys_of_run else None)
    return {c["check"]: c["detail"] for v in report["vaults"] for c in v["checks"] if not c["passed"]}


def committed(vault, file):
    """Put a cue file into a vault as a forger would, who can write its manifest too; returns its name."""
    content, entry = file.to_bytes(), vault.entry(file.header.task)
    digest = sha256_of(content)
    name = f"task-{file.header.task:03}.{file.header.memory}.{digest[:8]}.cue"
    new = Entry(
        name=name, task=entry.task, memory=entry.memory, key=file.header.key, bytes=len(content), sha256=digest
    )
    (vault.folder / entry.name).unlink()
    (vault.folder / name).write_bytes(content)
    (vault.folder / name).chmod(0o600)
    (vault.folder / "manifest.json").write_bytes(vault.manifest().with_entry(new).sealed())
    return name


def with_rows(file, rows, cues_of_rows, mean=None):
    """A file whose network has further rows (k, C, h, w), by hand of whoever writes the file; no symmetry is left."""
    network = file.network()
    shape = MemoryShape(**{**file.shape.as_json(), "kinds": (), "cue_channels": file.shape.cue_channels + len(rows)})
    forged, state = PatternCompletion(shape), network.state_dict()
    state["synthesis.weight"] = torch.cat([state["synthesis.weight"], torch.from_numpy(rows).float()])
    state["mean"] = state["mean"] if mean is None else torch.from_numpy(mean).float()
    forged.load_state_dict(state)
    worth = {"synthesis.weight": np.full(shape.cue_channels, 1e4), "mean": np.array([1e4])}
    stored = pack(forged, round_weights(forged, worth, 0.4))
    cues = {}
    for shard in file.header.shards:
        former = file.cues(shard.label)
        cues[shard.label] = np.concatenate([former, cues_of_rows(len(former))], axis=1).astype(np.int16)
    tables = FrequencyTables.of(np.concatenate(list(cues.values())))
    header = file.header.model_copy(update={"shape": shape.as_json()})
    return CueFile.pack(header, cues, tables, stored)


def picture(given, number, channels):
    """A scan as the row of a network: (C, h, w)."""
    return given.scans.images[number][..., :channels].transpose(2, 0, 1).astype(np.float64) / 255


def test_what_a_run_leaves_passes_every_check(ran, state):
    report = audit([state / "site-0", state / "site-1"], ran[1], identifiers=NAMES, state=state)
    assert passed(report), failures(state, ran[1], ("site-0", "site-1"))
    assert [len(vault["checks"]) for vault in report["vaults"]] == [14, 14, 5]


def test_a_scan_in_a_component_that_no_record_uses_fails(ran, state):
    vault = Vault(state / "site-0" / "tiny")
    file = vault.load(0)
    row, labels = picture(ran[1], 7, file.shape.channels), ran[1].scans.labels
    record = f"phantom-smear/{labels[7]}:{(labels[:7] == labels[7]).sum()}"
    name = committed(vault, with_rows(file, row[None], lambda n: np.zeros((n, 1, *file.shape.grid))))
    found = failures(state)
    assert found.keys() == {titles.UNUSED_CHECK}
    assert found[titles.UNUSED_CHECK].startswith(f"'tiny/{name}' has component {file.shape.cue_channels}, which no")
    told = failures(state, ran[1])
    assert f"'tiny/{name}' shows the scan of {record} at " in told[titles.SHOWN_CHECK]
    # Taking out what no record uses takes out the scan, and changes no recall.
    before = vault.recall(0).images
    assert "1 file written again" in CliRunner().invoke(app, ["vault", "tidy", str(state / "site-0")]).output
    assert failures(state, ran[1]) == {}
    assert (vault.recall(0).images == before).all()
    assert "nothing to tidy" in CliRunner().invoke(app, ["vault", "tidy", str(state / "site-0")]).output


@pytest.mark.parametrize("pieces", [1, 4, 9])
def test_a_scan_in_one_or_several_rows_that_records_do_use_fails_with_scans(ran, state, pieces):
    """The rows cancel out in every recall: each stands there twice, once negated."""
    vault = Vault(state / "site-0" / "tiny")
    file = vault.load(1)
    whole = picture(ran[1], len(ran[1].scans) - 2, file.shape.channels)
    masks = np.arange(28) * pieces // 28 == np.arange(pieces)[:, None]
    rows = np.concatenate([whole[None] * masks[:, None, :, None], -whole[None] * masks[:, None, :, None]])
    name = committed(vault, with_rows(file, rows, lambda n: np.ones((n, 2 * pieces, *file.shape.grid))))
    assert failures(state) == {}, "nothing can be said of used rows without scans"
    found = failures(state, ran[1])
    assert found.keys() == {titles.SHOWN_CHECK}
    assert f"'tiny/{name}' shows the scan of " in found[titles.SHOWN_CHECK]


def forged_header(vault, **changes):
    file = vault.load(0)
    return CueFile(
        file.header.model_copy(update=changes), file.shape, file.tables, file.completion, file.payload, file.version
    )


def hexadecimal(text):
    return text.encode().hex().ljust(64, "0")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"task_name": "doe-jane"}, "has task name 'doe-jane', the run store knows"),
        ({"key": hexadecimal("Jane Doe 1950")}, "which does not follow from the experiment's settings"),
        ({"shards": "jane-doe/7"}, "named 'jane-doe/7', the run store knows"),
    ],
)
def test_a_name_where_a_name_may_stand_fails_by_the_run_store_and_by_given_identifiers(state, changes, told):
    vault = Vault(state / "site-0" / "tiny")
    if "shards" in changes:
        first, *rest = vault.load(0).header.shards
        changes = {"shards": (first.model_copy(update={"dataset_label": changes["shards"]}), *rest)}
    name = committed(vault, forged_header(vault, **changes))
    by_store = failures(state, identifiers=Identifiers())
    assert by_store.keys() == {titles.NAMES_CHECK}
    assert f"'tiny/{name}'" in by_store[titles.NAMES_CHECK]
    assert told in by_store[titles.NAMES_CHECK]
    by_name = failures(state, keys_of_run=False)
    assert f"'tiny/{name}' holds identifier 1" in by_name[titles.IDENTIFIERS_CHECK]
    assert "Jane" not in by_name[titles.IDENTIFIERS_CHECK]


def test_a_name_as_experiment_fails(state):
    (state / "site-0" / "tiny").rename(state / "site-0" / "jane-doe")
    found = failures(state)
    assert "'jane-doe' is in none of its experiments" in found[titles.NAMES_CHECK]
    assert "is named by identifier 1" in found[titles.IDENTIFIERS_CHECK]
    (state / "site-0" / "jane-doe").rename(state / "site-0" / "Jane")
    assert "has experiment 'tiny', expected 'Jane'" in failures(state)[titles.FILES_CHECK]


def test_another_hospitals_committed_file_fails(state):
    mine, other = (Vault(state / site / "tiny") for site in ("site-0", "site-1"))
    name = committed(mine, other.load(0))
    found = failures(state)
    assert found == {titles.NAMES_CHECK: f"'tiny/{name}' is the memory of 'site-1', this is 'site-0'"}
    # Without the run's records by the other hospital's vault.
    both = failures(state, sites=("site-1", "site-0"), keys_of_run=False)
    assert f"'tiny/{name}' is also in vault 'site-1'" in both[titles.FILES_CHECK]


def test_scans_that_do_not_fit_are_a_failed_check_with_a_report(ran, state):
    wrong = load_scans_of(ran[1], 255 - ran[1].scans.images)
    found = failures(state, wrong)
    assert found.keys() == {titles.FIT_CHECK}
    assert "does not fit them: the recalls of class 0" in found[titles.FIT_CHECK]


def load_scans_of(given, images):
    return type(given)(type(given.scans)(images, given.scans.labels), given.experiment, given.hospital)


def attribute(path):
    try:
        os.setxattr(path, "user.patient", b"Jane Doe")
    except OSError:
        pytest.skip("this file system keeps no attributes")


ATTACHED = {
    "an attribute": (attribute, "has an attribute 'user.patient'"),
    "a second name": (lambda path: os.link(path, path.parents[3] / "copy"), "has 2 names, so it lies elsewhere too"),
}


@pytest.mark.parametrize("what", ATTACHED)
def test_what_is_attached_to_a_file_fails(state, what):
    attach, told = ATTACHED[what]
    path = next((state / "site-0" / "tiny").glob("task-000*"))
    attach(path)
    assert failures(state) == {titles.ATTACHED_CHECK: f"'tiny/{path.name}' {told}"}


def in_store(state, text):
    db = sqlite3.connect(state / "runs.sqlite")
    db.execute("UPDATE experiment SET message = ?", (text,))
    db.commit()
    db.close()


def put(name, content):
    def plant(state):
        path = state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)

    return plant


DICOM = b"\x10\x00\x10\x00PN\x08\x00DOE^JANE"
BELOW = {
    "a file": (
        put("server/tiny/cache.bin", b"\x07" * 5000),
        below.STRANGERS_CHECK,
        "'server/tiny/cache.bin' does not",
    ),
    "a file above": (put("copy.cue", b"\x07" * 50), below.SCANS_CHECK, "'copy.cue' has no known format"),
    "a name in a log": (
        put("logs/tiny.log", b"refused DOE^JANE"),
        below.IDENTIFIERS_CHECK,
        "'logs/tiny.log' holds id",
    ),
    "UTF-16": (put("logs/tiny.log", "Doe, Jane".encode("utf-16")), below.IDENTIFIERS_CHECK, "identifier 1 as UTF-16"),
    "hex": (
        put("logs/tiny.log", b"k " + b"4711-0815-23".hex().encode()),
        below.IDENTIFIERS_CHECK,
        "2 in hexadecimal",
    ),
    "base64": (
        put("logs/tiny.log", b"k=" + base64.b64encode(b"patient Jane Doe")),
        below.IDENTIFIERS_CHECK,
        "identifier 1 in base64",
    ),
    "gzip": (
        put("logs/a.log", gzip.compress(b"4711 0815 23" + bytes(range(99)))),
        below.IDENTIFIERS_CHECK,
        "2, in a compressed stream",
    ),
    "a DICOM tag": (put("logs/tiny.log", DICOM), below.IDENTIFIERS_CHECK, "holds a DICOM tag of a patient"),
    "EXIF": (put("logs/tiny.log", b"\xff\xe1Exif\0\0II*\0"), below.IDENTIFIERS_CHECK, "'logs/tiny.log' holds EXIF"),
    "a path": (
        put("logs/tiny.log", b"no file /mnt/pacs/x.dcm"),
        below.IDENTIFIERS_CHECK,
        "'logs/tiny.log' holds a path",
    ),
    "the run store": (
        lambda s: in_store(s, "Jane Doe's scan"),
        below.IDENTIFIERS_CHECK,
        "'runs.sqlite' holds identifier",
    ),
    "a wide store": (lambda s: (s / "runs.sqlite").chmod(0o644), below.MODES_CHECK, "'runs.sqlite' has mode 0644"),
    "a link": (lambda s: (s / "more").symlink_to("/"), below.STRANGERS_CHECK, "'more' is a link to somewhere else"),
}


@pytest.mark.parametrize("what", BELOW)
def test_what_lies_elsewhere_below_the_state_root_fails(state, what):
    plant, check, told = BELOW[what]
    plant(state)
    assert told in failures(state)[check]
    assert failures(state, keys_of_run=False) == {}, "without --state only vaults are looked at"


def test_a_given_scan_elsewhere_below_the_state_root_is_found(ran, state):
    put("logs/tiny.log", ran[1].scans.images[5].tobytes())(state)
    assert "'logs/tiny.log' holds bytes of 1 given scans" in failures(state, ran[1])[below.SCANS_CHECK]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (DICOM, "holds a DICOM tag"),
        (b"born Jane_Doe", "holds identifier 1"),
        (b"C:\\scans\\a", "holds a path"),
    ],
)
def test_identifiers_are_found_in_vaults_of_whatever_seal(state, content, told):
    path = state / "site-0" / "tiny" / "notes.txt"
    path.write_bytes(content)
    assert f"'tiny/notes.txt' {told}" in failures(state, keys_of_run=False)[titles.IDENTIFIERS_CHECK]


def test_identifiers_are_read_from_a_file_and_short_ones_refused(tmp_path):
    path = tmp_path / "patients.txt"
    path.write_text("Jane Doe\n\n4711-0815-23\n")
    assert read_identifiers(path).known == NAMES.known
    for content, told in ((b"Jane Doe\nDoe\n", "line 2"), (b"\n", "holds 0"), (b"\xff\xfe\0", "no text")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=told):
            read_identifiers(path)


def test_the_command_takes_identifiers_and_looks_through_the_state_root(state, tmp_path):
    (tmp_path / "patients.txt").write_text("Jane Doe\n")
    asked = ["audit", str(state / "site-0"), "--state", str(state), "--identifiers", str(tmp_path / "patients.txt")]
    assert CliRunner().invoke(app, asked).exit_code == 0
    put("logs/tiny.log", b"jane doe")(state)
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1
    assert "FAILED  No identifier stands in records and logs: 'logs/tiny.log' holds identifier 1" in done.output


def test_notes_on_own_scans_are_accounted_for_and_their_pixels_are_not(ran, state):
    notes = state / "site-0" / ".scans"
    notes.mkdir(mode=0o700)
    put("site-0/.scans/scans.sqlite", b"salted hashes")(state)
    assert failures(state) == {}
    put("site-0/.scans/own-28-pad.pixels", ran[1].scans.images.tobytes())(state)
    found = failures(state, ran[1])
    assert "'.scans/own-28-pad.pixels' does not belong in a vault" in found[titles.FOLDER_CHECK]
    assert "'.scans/own-28-pad.pixels' holds bytes of" in found[titles.SCANS_CHECK]
