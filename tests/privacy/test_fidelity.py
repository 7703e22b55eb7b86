import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from braincl_med.foundation.errors import DataError
from braincl_med.memory.module import complete
from braincl_med.privacy.audit import audit
from braincl_med.privacy.fidelity import likeness, nearest_is_own, psnr, ssim
from braincl_med.privacy.given import GivenScans
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
