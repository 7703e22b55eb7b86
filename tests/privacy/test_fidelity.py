import os
import resource

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from braincl_med.federation.checkpoint import Checkpoint, folder_of, save_checkpoint
from braincl_med.federation.local import local_hospitals
from braincl_med.foundation.errors import ConfigError, DataError, VaultError
from braincl_med.memory.module import complete
from braincl_med.messages.order import Order
from braincl_med.privacy.audit import audit, passed
from braincl_med.privacy.fidelity import (
    GivenScans,
    export_scans,
    likeness,
    load_scans,
    nearest_is_own,
    psnr,
    ssim,
)
from braincl_med.settings.loading import load_experiment
from braincl_med.streams.named import build_registry
from braincl_med.streams.tasks import Scans
from braincl_med.vault.vault import Vault
from tests.vault.test_cuefile import cue_file


def pairs(count=6, size=16, noise=12.0, seed=0):
    rng = np.random.default_rng(seed)
    originals = rng.integers(0, 256, (count, size, size, 3)).astype(np.uint8)
    recalls = (originals + rng.normal(0, noise, originals.shape)).clip(0, 255).astype(np.uint8)
    return recalls, originals


def test_psnr_and_ssim_are_scikit_images():
    recalls, originals = pairs()
    expected = [peak_signal_noise_ratio(b, a) for a, b in zip(recalls, originals, strict=True)]
    np.testing.assert_allclose(psnr(recalls, originals), expected)
    expected = [structural_similarity(a, b, channel_axis=-1) for a, b in zip(recalls, originals, strict=True)]
    np.testing.assert_allclose(ssim(recalls, originals), expected)


def test_psnr_of_a_hand_made_pair():
    black = np.zeros((2, 8, 8, 3), np.uint8)
    grey = black.copy()
    grey[0] = 51
    np.testing.assert_allclose(psnr(grey, black), [20 * np.log10(5), 100])


@pytest.mark.parametrize("noise", [0.0, 60.0, 300.0])
def test_the_nearest_original_by_brute_force(noise):
    recalls, originals = pairs(300, 8, noise)
    originals = np.concatenate([originals, pairs(250, 8, seed=1)[1]])
    own = np.random.default_rng(3).permutation(300)
    recalls = recalls[own]
    distances = ((recalls[:, None].astype(int) - originals[None]) ** 2).sum((2, 3, 4))
    expected = distances[np.arange(300), own] == distances.min(1)
    assert np.array_equal(nearest_is_own(recalls, originals, own), expected)


def originals_of(file, noise=9.0):
    """Made-up originals of a cue file: its recalls, disturbed; and the file with the recall errors that follow."""
    vault_scans, shards = [], []
    rng = np.random.default_rng(0)
    for shard in file.header.shards:
        recalled = complete(file.network(), file.cues(shard.label))
        images = (recalled + rng.normal(0, noise, recalled.shape)).clip(0, 255).astype(np.uint8)
        error = np.sqrt(np.mean(((recalled.astype(float) - images) / 255) ** 2))
        vault_scans.append(Scans(images, np.full(len(images), shard.label)))
        shards.append(shard.model_copy(update={"recall_error": float(error)}))
    header = file.header.model_copy(update={"shards": tuple(shards)})
    return Scans.join(vault_scans), type(file)(header, file.shape, file.tables, file.completion, file.payload)


def test_ordinals_are_respected_after_consolidation(tmp_path):
    given, file = originals_of(cue_file((9, 6))[0])
    # The classes' scans may stand among each other in the file, as long as each class keeps its order.
    mixed = np.empty(15, np.int64)
    mixed[np.argsort(np.random.default_rng(1).permutation(given.labels), kind="stable")] = np.arange(15)
    given = given.take(mixed)
    whole = likeness(file, given)
    vault = Vault(tmp_path / "trial")
    vault.remember(file)
    vault.consolidate(0, {0: np.array([1, 4, 8]), 1: np.arange(6)})
    kept = [1, 4, 8, *range(9, 15)]
    part = likeness(vault.load(0), given)
    assert np.array_equal(part.psnr, whole.psnr[kept])
    assert np.array_equal(part.ssim, whole.ssim[kept])
    assert np.array_equal(part.own, whole.own[kept])
    fidelity = audit([tmp_path / "trial"], GivenScans(given))["vaults"][0]["fidelity"]
    assert fidelity["scans"] == 9
    assert fidelity["psnr"] == pytest.approx(whole.psnr[kept].mean())
    assert fidelity["tasks"] == [{"task": "trial/task-0", **part.as_json()}]


def test_scans_of_another_vault_are_refused():
    given, file = originals_of(cue_file()[0])
    with pytest.raises(DataError, match=r"4 scans of class 0 \(set/0\), the vault's memory was made of 5"):
        likeness(file, given.take(np.arange(1, 8)))
    with pytest.raises(DataError, match="12 by 8 pixels"):
        likeness(file, Scans(np.zeros((8, 12, 8, 3), np.uint8), given.labels))
    with pytest.raises(DataError, match=r"class 0 \(set/0\) differ from the given scans"):
        likeness(file, Scans(255 - given.images, given.labels))


@pytest.mark.parametrize("left_out", [1, 4])
def test_scans_of_another_vault_are_refused_when_records_have_left_too(tmp_path, left_out):
    given, file = originals_of(cue_file((40, 30))[0])
    vault = Vault(tmp_path / "trial")
    vault.remember(file)
    vault.consolidate(0, {0: np.arange(left_out, 40), 1: np.arange(30)})
    assert len(likeness(vault.load(0), given).psnr) == 70 - left_out
    turned = given.take(np.r_[np.roll(np.arange(40), 1), 40:70])
    shuffled = np.random.default_rng(1).permutation(given.images.ravel()).reshape(given.images.shape)
    for wrong in (turned, Scans(shuffled, given.labels)):
        with pytest.raises(DataError, match=r"class 0 \(set/0\) .* encoded by at most 0.0"):
            likeness(vault.load(0), wrong)


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
    "memory-epochs": 1,
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
    with pytest.raises(DataError, match="hospital 'site-1': audit the vault of that name"):
        audit(vaults[:1], given)
    with pytest.raises(DataError, match="belongs to another vault"):
        audit(vaults[:1], GivenScans(given.scans))


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
