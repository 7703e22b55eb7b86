"""What works together: Flower's versions, and what the former version of this program left."""

import tarfile
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tests.small_backbone  # noqa: F401
from apps.cli.main import app
from braincl_med.federation.checkpoint import VERSION, folder_of, load_checkpoint, load_weights
from braincl_med.federation.extend import add_task
from braincl_med.federation.local import local_hospitals, run_locally
from braincl_med.foundation import version
from braincl_med.foundation.errors import ConfigError
from braincl_med.records.store import RunStore
from braincl_med.records.summary import summarise
from braincl_med.settings.loading import former_config

ROOT = Path(__file__).resolve().parent


def test_the_tested_range_is_the_one_that_is_installed() -> None:
    dependencies = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]["dependencies"]
    named = next(text for text in dependencies if text.startswith("flwr["))
    assert named == f"flwr[simulation]>={version.FLOWER_FROM},<{version.FLOWER_BELOW}"
    version.require_tested_flower()


@pytest.mark.parametrize("flower", ["1.40.9", "1.43.0", "2.0.0", "1.9.0", "not installed"])
def test_another_flower_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch, flower: str) -> None:
    monkeypatch.setattr(version, "installed", lambda package: flower)
    with pytest.raises(ConfigError, match=rf"Flower is {flower}, .*pip install 'flwr\[simulation\]>=1\.41,<1\.43'"):
        version.require_tested_flower()


def test_the_command_tells_what_is_read() -> None:
    said = CliRunner().invoke(app, ["versions"]).output
    assert "tested: from 1.41 on, below 1.43" in said
    assert f"checkpoint: writes version {VERSION}, reads 1 to {VERSION}" in said


def test_an_experiment_of_the_former_version_goes_on(tmp_path: Path) -> None:
    """`golden/former-state.tar.xz`: two hospitals have learned one task; checkpoint 3, run store 2, cue files 3."""
    with tarfile.open(ROOT / "golden" / "former-state.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = folder_of(tmp_path, "tiny")
    before = load_checkpoint(folder)
    assert before is not None
    assert before.version == 3
    assert load_weights(folder, before)
    config = former_config(before.settings, "tiny").model_copy(update={"state_root": str(tmp_path)})
    cues = {path: path.read_bytes() for path in tmp_path.glob("site-*/tiny/task-000.*")}
    assert [hospital.vault.load(0).header.task_name for hospital in local_hospitals(config)] == ["xray", "xray"]
    counted = RunStore(tmp_path).tally("tiny")
    assert summarise(RunStore(tmp_path), "tiny").evaluated == 1

    add_task(tmp_path, "tiny", "smear", ["phantom-smear/0", "phantom-smear/1"])
    run_locally(config)
    after = load_checkpoint(folder)
    assert after is not None
    assert (after.version, after.finished) == (VERSION, True)
    assert {path: path.read_bytes() for path in cues} == cues
    now = RunStore(tmp_path).tally("tiny")
    assert (now.scans[0, :, :2] == counted.scans[0, :, :2]).all()
    assert (now.correct[0, :, :2] == counted.correct[0, :, :2]).all()
    assert summarise(RunStore(tmp_path), "tiny").evaluated == 2
