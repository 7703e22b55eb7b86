"""A consolidation that is asked for again trains the shared network on what the vaults hold now, and no scan."""

import pytest
from typer.testing import CliRunner

import tests.small_backbone  # noqa: F401
from apps.cli.main import app
from braincl_med.federation.checkpoint import folder_of, load_checkpoint
from braincl_med.federation.local import run_locally
from braincl_med.federation.retrain import queue_consolidation
from braincl_med.foundation.errors import ConfigError
from braincl_med.records.store import RunStore
from braincl_med.settings.loading import load_experiment
from braincl_med.streams.source import ScanSource
from braincl_med.vault.vault import Vault

SETTINGS = """
name: tiny
stream: {name: phantom, task-count: 2, train-per-class: 8, test-per-class: 4}
federation: {hospitals: 2}
memory: {components: 6, step: 1.0, guidance: 0}
cortex: {stem: imagenet, network: small-512}
wake: {epochs: 1}
selection: {per-class: 8}
sleep: {rounds: 2, epochs: 2, batch-size: 16}
"""

RAW = """
name: raw
method: finetune
stream: {name: phantom, task-count: 2, train-per-class: 4, test-per-class: 2}
federation: {hospitals: 1}
cortex: {stem: imagenet, network: small-512}
sleep: {rounds: 1, epochs: 1, batch-size: 16}
"""
SITES = ("site-0", "site-1")


@pytest.fixture
def config(tmp_path):
    config = load_experiment(SETTINGS, {"state-root": str(tmp_path)})
    run_locally(config)
    return config


def test_the_next_run_sleeps_on_what_remains_and_reads_no_training_scan(config, tmp_path, monkeypatch):
    folder = folder_of(tmp_path, "tiny")
    before = load_checkpoint(folder)
    vault = Vault(tmp_path / "site-0" / "tiny")
    label = vault.load(0).header.shards[0].dataset_label
    asked = ["vault", "erase", str(vault.folder), "--class", label, "--yes", "--retrain"]
    done = CliRunner().invoke(app, asked)
    assert "'tiny' will sleep again after task" in done.stdout
    queued = load_checkpoint(folder)
    assert (queued.task, queued.weights) == (1, before.weights)
    assert "anyway" in queue_consolidation(tmp_path, "tiny"), "once is enough"
    read = []
    scans = ScanSource.scans
    monkeypatch.setattr(ScanSource, "scans", lambda self, *of: read.append(of[-1]) or scans(self, *of))
    with pytest.raises(ConfigError, match="set resume to continue it"):
        run_locally(config)
    run_locally(config.model_copy(update={"resume": True}))
    assert "train" not in read
    after = load_checkpoint(folder)
    assert after.finished
    assert after.sha256 != before.sha256
    assert RunStore(tmp_path).experiment("tiny").status == "finished"
    slept = [step for step in RunStore(tmp_path).steps("tiny") if step.phase == "sleep" and step.task == 1]
    assert [step.examples for step in slept] == [
        sum(Vault(tmp_path / s / "tiny").sizes()["records"] for s in SITES)
    ] * 2


def test_what_cannot_sleep_again_is_refused_and_a_server_elsewhere_is_said(config, tmp_path):
    with pytest.raises(ConfigError, match="no experiment 'other'"):
        queue_consolidation(tmp_path, "other")
    run_locally(load_experiment(RAW, {"state-root": str(tmp_path)}))
    with pytest.raises(ConfigError, match="does not train its network on memories alone"):
        queue_consolidation(tmp_path, "raw")
    vault = tmp_path / "site-1" / "tiny"
    folder_of(tmp_path, "tiny").rename(tmp_path / "away")
    label = Vault(vault).load(0).header.shards[0].dataset_label
    done = CliRunner().invoke(app, ["vault", "erase", str(vault), "--class", label, "--yes", "--retrain"])
    assert "the server is elsewhere: there, `braincl tasks retrain tiny`" in done.stdout
