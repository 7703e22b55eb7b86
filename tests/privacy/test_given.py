import io
import os
import resource
import zipfile

import numpy as np
import pytest

from braincl_med.federation.checkpoint import Checkpoint, folder_of, save_checkpoint
from braincl_med.federation.local import local_hospitals
from braincl_med.foundation.errors import ConfigError, DataError, VaultError
from braincl_med.messages.order import Order
from braincl_med.privacy.audit import audit, passed
from braincl_med.privacy.checks.titles import FIT_CHECK
from braincl_med.privacy.given import GivenScans, export_scans, load_scans
from braincl_med.settings.loading import load_experiment
from braincl_med.streams.named import build_registry


def with_open_bracket():
    """An archive whose `images` have a header that ends too early."""
    header = b"{'shape': (2, 8, 8, 3".ljust(117) + b"\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello", "is not a file of scans"),
        ({"images": np.zeros((2, 8, 8, 3), np.uint8)}, "lacks an array"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros(2, int)}, "expected uint8"),
        ({"images": np.zeros((2, 8, 8, 3), np.uint8), "labels": np.zeros(3, int)}, "2 images but labels"),
        ({"images": np.zeros((2, 8, 8, 3), np.uint8), "labels": np.zeros(2)}, "is not a file of scans"),
        ({"images": np.array([None, 1]), "labels": np.zeros(2, int)}, "is not a file of scans"),
        (None, "there is no file 'given.npz'"),
        (with_open_bracket(), "is not a file of scans"),
    ],
)
def test_a_file_that_holds_no_scans_is_refused(tmp_path, content, reason):
    path = tmp_path / "given.npz"
    if isinstance(content, dict):
        np.savez(path, **content)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as raised:
        load_scans(path)
    assert str(tmp_path) not in str(raised.value)


SETTINGS = {
    "stream-train-per-class": 8,
    "stream-test-per-class": 8,
    "selection-per-class": 8,
    "memory-components": 12,
}


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """An experiment of two hospitals whose tasks are all encoded, nothing more."""
    state = tmp_path_factory.mktemp("state")
    config = load_experiment("quick", {**SETTINGS, "state-root": str(state)})
    registry = build_registry(config.stream, config.seed)
    for hospital in local_hospitals(config):
        for task in range(len(registry.tasks)):
            assert hospital.answer(Order(config.name, task, "encode", 0, registry)).failure in ("", None)
    return config


def test_a_hospitals_vault_is_audited_against_its_own_scans(encoded, tmp_path):
    path = tmp_path / "scans.npz"
    written = export_scans(encoded, 1, path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    given = load_scans(path)
    assert np.array_equal(given.scans.images, written.images)
    assert set(given.strangers.labels.tolist()) == set(written.labels.tolist())
    learned = {image.tobytes() for image in written.images}
    assert not any(image.tobytes() in learned for image in given.strangers.images)
    assert (given.experiment, given.hospital) == ("quick", "site-1")
    with np.load(path) as held:
        assert sorted(set(held["task"].tolist())) == [0, 1, 2]
    vaults = [encoded.state_folder / "site-0", encoded.state_folder / "site-1"]
    report = audit(vaults, given)
    assert passed(report)
    assert report["vaults"][0]["fidelity"] is None
    fidelity = report["vaults"][1]["fidelity"]
    assert fidelity["scans"] == len(written)
    assert [t["task"] for t in fidelity["tasks"]] == ["quick/task-1", "quick/task-2", "quick/task-3"]
    assert fidelity["re-identified"] > 0.5
    assert 10 < fidelity["psnr"] < 60
    for wrong, reason in (
        (given, "they are those of hospital 'site-1', which is not audited"),
        (GivenScans(given.scans), "belongs to another vault"),
    ):
        (refused,) = audit(vaults[:1], wrong)["vaults"]
        failed = {check["check"]: check["detail"] for check in refused["checks"] if not check["passed"]}
        assert failed.keys() == {FIT_CHECK}
        assert reason in failed[FIT_CHECK]


def test_scans_are_not_written_below_the_state_root(encoded, tmp_path):
    with pytest.raises(ConfigError, match="below the state root"):
        export_scans(encoded, 0, encoded.state_folder / "site-0" / "scans.npz")
    (tmp_path / "link").symlink_to(encoded.state_folder)
    with pytest.raises(ConfigError, match="below the state root"):
        export_scans(encoded, 0, tmp_path / "link" / "scans.npz")
    with pytest.raises(ConfigError, match="sites 0 to 1"):
        export_scans(encoded, 2, tmp_path / "scans.npz")
    assert not list(encoded.state_folder.rglob("*.npz"))


def test_no_part_of_the_scans_stays_when_they_cannot_be_written(encoded, tmp_path):
    path = tmp_path / "scans.npz"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(
            VaultError, match=r"^'scans.npz' cannot be written: file too large; no part of it was kept"
        ):
            export_scans(encoded, 1, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(VaultError, match=r"^'scans.npz' cannot be written: no such file or directory"):
        export_scans(encoded, 1, tmp_path / "missing" / "scans.npz")


def test_the_checkpoints_registry_counts_and_another_configuration_is_refused(encoded, tmp_path):
    registry = build_registry(encoded.stream, encoded.seed)
    shorter = registry.model_copy(update={"tasks": registry.tasks[:2]})
    state = tmp_path / "state"
    config = encoded.model_copy(update={"state_root": str(state)})
    save_checkpoint(
        folder_of(state, "quick"),
        Checkpoint(experiment="quick", settings=config.as_result_settings(), registry=shorter),
    )
    written = export_scans(config, 0, tmp_path / "scans.npz")
    assert set(written.labels.tolist()) == set(range(shorter.seen(1)))
    with pytest.raises(ConfigError, match="seed was 1, is 2: its scans are not those that were encoded"):
        export_scans(config.model_copy(update={"seed": 2}), 0, tmp_path / "scans.npz")
    (tmp_path / "scans.npz").chmod(0o644)
    evaluated_otherwise = config.stream.model_copy(update={"evaluate": "val", "test_per_class": 3})
    export_scans(config.model_copy(update={"stream": evaluated_otherwise}), 0, tmp_path / "scans.npz")
    assert (tmp_path / "scans.npz").stat().st_mode & 0o777 == 0o600
    other = config.stream.model_copy(update={"train_per_class": 9})
    with pytest.raises(ConfigError, match="stream-train-per-class was 8, is 9"):
        export_scans(config.model_copy(update={"stream": other}), 0, tmp_path / "scans.npz")
