"""Attacks as an audit runs them: over real cue files, within their time, and in words."""

import json
import os

import numpy as np
import pytest
import torch

from braincl_med.cortex.cortex import Cortex
from braincl_med.federation.checkpoint import Checkpoint, folder_of, save_checkpoint
from braincl_med.foundation.files import sha256_of
from braincl_med.memory.coding import FrequencyTables
from braincl_med.memory.module import fit, recall_error
from braincl_med.privacy import attacked, shared
from braincl_med.privacy.attacked import OWN, Attacks
from braincl_med.privacy.attacks import inversion
from braincl_med.privacy.audit import audit, record, without_worst
from braincl_med.privacy.given import GivenScans
from braincl_med.privacy.page import as_file, html, text
from braincl_med.privacy.shared import Known, known_of
from braincl_med.privacy.words import GLOSSARY, LIMITS, opening
from braincl_med.records.store import RunStore
from braincl_med.settings.config import CortexConfig
from braincl_med.settings.loading import load_experiment
from braincl_med.settings.memory import LinearMemory
from braincl_med.streams.named import build_registry
from braincl_med.streams.tasks import Scans
from braincl_med.vault.cuefile import CODER, CueFile, Header, Shard
from braincl_med.vault.pruning import pruned
from braincl_med.vault.vault import Vault
from tests.privacy.attacks.blobs import blobs
from tests.small_backbone import SmallBackbone  # noqa: F401  (registers "small")

MEMORY = LinearMemory(step=0.1, guidance=0)
SCANS = 64


def memory_of(scans, seed):
    """A hospital's cue file of one task, and its scans in the order in which they were encoded."""
    module = fit(scans.images, MEMORY, seed)
    cues = {label: module.encode(scans.images[scans.labels == label]) for label in (0, 1)}
    images = {label: scans.images[scans.labels == label] for label in (0, 1)}
    shards = tuple(
        Shard(label=c, dataset_label=f"set/{c}", records=len(cues[c]), words=0,
              recall_error=recall_error(module.completion, cues[c], images[c]))
        for c in (0, 1)
    )  # fmt: skip
    key = sha256_of(b"%d" % seed)
    header = Header(experiment="trial", task=0, task_name="blobs", memory="working", key=key, coder=CODER,
                    shape=module.completion.shape.as_json(), shards=shards)  # fmt: skip
    return pruned(CueFile.pack(header, cues, FrequencyTables.of(np.concatenate(list(cues.values()))), module.stored))


@pytest.fixture(scope="module")
def trial():
    """Cue files of two hospitals, the first one's scans, and scans that neither has learned."""
    ours, theirs, strangers = (Scans(*blobs(SCANS, seed)) for seed in (1, 2, 3))
    return memory_of(ours, 1), memory_of(theirs, 2), ours, strangers


def network():
    torch.manual_seed(0)
    return Cortex(2, CortexConfig(network="small")).eval()


@pytest.fixture(scope="module")
def audited(trial, tmp_path_factory):
    """Two vaults below a state root with a shared network, audited with the first one's scans."""
    ours, theirs, scans, strangers = trial
    state = tmp_path_factory.mktemp("state")
    for site, file in enumerate((ours, theirs)):
        Vault(state / f"site-{site}" / "trial").remember(file)
    config = load_experiment("quick", {"cortex-network": "small", "state-root": str(state), "name": "trial"})
    registry = build_registry(config.stream, config.seed)
    settings = {**config.as_result_settings(), "memory": MEMORY.model_dump(mode="json")}
    checkpoint = Checkpoint(experiment="trial", settings=settings, registry=registry, task=1)
    save_checkpoint(folder_of(state, "trial"), checkpoint, network().weights())
    given = GivenScans(scans, "trial", "site-0", strangers)
    with pytest.MonkeyPatch.context() as patch:
        # So that a slow machine tries as much as a fast one, and nothing waits for its time to end.
        for room in (attacked, shared):
            patch.setattr(room, "MOST", 4)
        patch.setattr(inversion, "MOST_STEPS", 20)
        return audit([state / "site-0", state / "site-1"], given, minutes=10)


@pytest.fixture(scope="module")
def found(audited):
    return audited["vaults"][0]["attacks"][0]


def test_every_attack_is_tried_and_the_worst_are_named(found):
    matched = {row["how"]: row["matched"] for row in found["thief"]}
    assert matched[OWN] == 1
    assert len(matched) == 9
    assert matched["50 known pairs of cue and scan"] > matched["10 known pairs of cue and scan"]
    told = {row["of"]: row for row in found["membership"]}
    assert list(told) == ["the vault", "its completion networks alone", "the shared network"]
    assert told["the vault"]["interval"][0] > 0.9
    assert (told["the vault"]["members"], told["the vault"]["strangers"]) == (SCANS, SCANS)
    # This network has learned nothing, so nothing can be told from it.
    assert told["the shared network"]["interval"][0] < 0.5 < told["the shared network"]["interval"][1]
    assert [row["exact"] for row in found["update"]] == [1, 0, 0]
    assert [row["attack"] for row in found["inversion"]] == ["squared", "cosine"]
    assert len(found["worst"]) == 5
    assert found["not-measured"] == []


def test_what_cannot_be_measured_is_said_with_its_reason(trial):
    ours, _, scans, _ = trial
    found = Attacks({"blobs": ours}, scans, 0.01, known=Known(None, MEMORY)).report("trial")
    assert [row["how"] for row in found["thief"]] == [OWN, *(f"{n} known pairs of cue and scan" for n in (10, 50))]
    assert found["membership"] == found["update"] == found["inversion"] == []
    reasons = " | ".join(found["not-measured"])
    for reason in ("no other vault was given", "0 scans of its kind", "0 that were not", "--state"):
        assert reason in reasons


def test_an_audit_attacks_the_vault_whose_scans_it_has_and_records_no_single_scan(audited, tmp_path):
    first, second = audited["vaults"]
    assert second["attacks"] == []
    (one,) = first["attacks"]
    assert one["experiment"] == "trial"
    assert [row["of"] for row in one["membership"]][-1] == "the shared network"
    assert "another hospital's network" in [row["how"] for row in one["thief"]]
    assert json.loads(as_file(audited)) == audited
    store = RunStore(tmp_path, create=True)
    record(audited, [tmp_path], tmp_path)
    kept = store.last_audit().report
    assert kept == without_worst(audited) != audited
    assert '"ordinal"' not in json.dumps(kept)


def test_the_page_opens_with_what_to_do_and_shows_every_figure(audited):
    page, lines = html(audited, "today"), text(audited)
    said = opening(audited)
    assert said in page.replace("&#39;", "'")
    assert said in lines
    assert "whoever has the whole vault sees 100 in 100 scans" in said
    assert "That does not make them anonymous" in said
    assert "seal them" in said
    assert "let no hospital's update be seen by itself" in said
    assert "give the shared network" not in said
    assert page.index("whoever has the whole vault") < page.index("<table>")
    for word in (*GLOSSARY, *LIMITS, audited["version"], audited["vaults"][0]["manifests"]["trial"]):
        assert str(word) in page.replace("&#39;", "'")
    assert "class 0, scan" in page
    assert "re-identified" not in page.lower()
    assert "http" not in page


def test_the_paragraph_follows_the_figures(audited):
    (one,) = audited["vaults"][0]["attacks"]
    harmless = {**one, "thief": [one["thief"][0], {**one["thief"][1], "matched": 0.01, "interval": [0.0, 0.02]}]}
    harmless["membership"] = [{**one["membership"][0], "auc": 0.5, "interval": [0.45, 0.55]}]
    harmless["update"] = []
    vault = {**audited["vaults"][0], "attacks": [harmless]}
    said = opening({"vaults": [vault]})
    assert "Cues without their network told little" in said
    assert "little more than a guess" in said
    assert "reads off it" not in said
    wrong = {**vault, "passed": False, "attacks": [],
             "checks": [{"check": "Every cue decodes", "passed": False, "detail": ""}]}  # fmt: skip
    said = opening({"vaults": [wrong]})
    assert said.startswith("Something is wrong with site-0: these checks failed: Every cue decodes.")
    assert "was not measured" in said


def test_a_network_that_cannot_be_used_is_no_network(tmp_path):
    assert known_of(tmp_path, "trial") == Known()
    folder = folder_of(tmp_path, "trial")
    config = load_experiment("quick", {"state-root": str(tmp_path), "name": "trial"})
    checkpoint = Checkpoint(
        experiment="trial", settings=config.as_result_settings(), registry=build_registry(config.stream, 1), task=1
    )
    save_checkpoint(folder, checkpoint, {"other": torch.zeros(2)})
    assert known_of(tmp_path, "trial").network is None


@pytest.mark.parametrize("attacked_too", [True, False])
def test_files_that_name_single_scans_are_their_owners_alone(audited, tmp_path, monkeypatch, attacked_too):
    from typer.testing import CliRunner

    from apps.cli.main import app
    from braincl_med.privacy import audit as audits

    asked = []

    def audit_instead(vaults, given, keys, identifiers, state, minutes):
        asked.append((minutes, state))
        return audited if attacked_too else without_worst(audited)

    monkeypatch.setattr(audits, "audit", audit_instead)
    (tmp_path / "site-0").mkdir()
    out, store = tmp_path / "report", RunStore(tmp_path, create=True)
    former = os.umask(0o022)
    done = CliRunner().invoke(app, ["audit", str(tmp_path / "site-0"), "--out", str(out), "--minutes", "3"])
    os.umask(former)
    assert done.exit_code == 0
    assert asked == [(3, None)]
    expected = 0o600 if attacked_too else 0o644
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {expected}
    assert ('"ordinal"' in (out / "audit.json").read_text()) == attacked_too
    assert store.last_audit().report == without_worst(audited)
    assert sha256_of((out / "audit.json").read_bytes()) in (out / "audit.html").read_text()
