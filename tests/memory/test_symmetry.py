import numpy as np
import pytest
import torch

from braincl_med.memory import module
from braincl_med.memory.coding import FrequencyTables
from braincl_med.memory.components import principal_components
from braincl_med.memory.metric import Metric
from braincl_med.memory.module import complete, fit
from braincl_med.memory.networks import MemoryShape
from braincl_med.memory.symmetry import SYMMETRIES, from_spectrum, places, spectrum
from braincl_med.settings.memory import LinearMemory
from tests.memory.test_module import psnr

BLOCK = (3, 8, 8)


def mirrored(images, symmetry):
    """Scans (n, h, w, 3) and all that they are taken to look like."""
    every = np.concatenate([images, images[:, :, ::-1]])
    if symmetry > 2:
        every = np.concatenate([every, every[:, ::-1]])
    return every if symmetry < 6 else np.concatenate([every, every.swapaxes(1, 2)])


def streaks(count, seed=0):
    """Scans with one short line each, of any direction, at any place, in any colour."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:16, :16]
    turn, place = rng.uniform(0, np.pi, count), rng.uniform(5, 10, (count, 2))
    down, right = rows - place[:, :1, None], columns - place[:, 1:, None]
    turn = turn[:, None, None]
    along, across = down * np.cos(turn) + right * np.sin(turn), right * np.cos(turn) - down * np.sin(turn)
    return (np.exp(-((along / 5) ** 2) - across**2)[..., None] * rng.uniform(60, 255, (count, 1, 1, 3))).astype(
        np.uint8
    )


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_the_spectrum_is_orthonormal_and_every_place_belongs_to_one_kind(symmetry):
    values = np.random.default_rng(0).normal(size=(5, *BLOCK))
    assert np.allclose(from_spectrum(spectrum(values, symmetry), symmetry), values)
    assert np.isclose((spectrum(values, symmetry) ** 2).sum(), (values**2).sum())
    together = np.concatenate([places(symmetry, kind, BLOCK) for kind in range(symmetry)])
    assert sorted(together.tolist()) == list(range(3 * 8 * 8))


def test_the_plain_spectrum_agrees_with_scipy():
    fft = pytest.importorskip("scipy.fft")
    values = np.random.default_rng(0).normal(size=(4, 3, 7, 9))
    assert np.allclose(spectrum(values, 1), fft.dctn(values, axes=(1, 2, 3), norm="ortho"))


def test_a_block_that_is_not_square_has_no_transposed():
    with pytest.raises(ValueError, match="7 by 9 pixels cannot be transposed"):
        places(6, 0, (3, 7, 9))


def test_the_kinds_are_what_mirroring_leaves_or_turns_round():
    signs = {0: (1, 1, 1), 1: (1, 1, -1), 2: (-1, -1, 1), 3: (-1, -1, -1)}
    for kind, (upside, sideways, transposed) in signs.items():
        values = np.zeros((1, *BLOCK))
        values.reshape(-1)[places(6, kind, BLOCK)] = 1.5
        block = from_spectrum(values, 6)
        assert np.allclose(block[:, :, ::-1], upside * block)
        assert np.allclose(block[:, :, :, ::-1], sideways * block)
        assert np.allclose(block.swapaxes(2, 3), transposed * block)


@pytest.mark.parametrize("symmetry", [2, 4, 6])
def test_components_agree_with_those_of_all_mirror_images(symmetry):
    """The oracle makes the mirror images and analyses them together."""
    images = streaks(60)
    every = mirrored(images, symmetry)
    flat = every.reshape(len(every), -1) / 255
    variances = np.linalg.eigvalsh(np.cov(flat.T, bias=True))[::-1][:24]
    scans = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    shape = MemoryShape(3, 16, 16, 8, 0, 4, linear=True)
    found = principal_components(scans, shape, Metric.plain(symmetry, (3, 16, 16)), 0, 30)
    # One degree of freedom less a kind on one side, less in all on the other.
    assert np.allclose(np.sort(found.deviations.numpy() ** 2)[::-1][:24], variances, rtol=0.04)
    assert np.allclose(found.basis @ found.basis.T, np.eye(len(found.basis)), atol=1e-5)
    assert np.allclose(found.mean.reshape(3, 16, 16).permute(1, 2, 0), every.mean(0) / 255, atol=1e-5)


def test_scans_without_direction_are_kept_in_fewer_bytes_and_unseen_ones_come_back_better(monkeypatch):
    images, unseen = streaks(400), streaks(200, seed=1)
    mirrored = fit(images, LinearMemory(step=0.2), seed=1)
    monkeypatch.setattr(module, "SYMMETRIES", (1,))
    plain = fit(images, LinearMemory(step=0.2), seed=1)
    assert (mirrored.completion.shape.symmetry, plain.completion.shape.symmetry) == (6, 1)
    cues = [m.encode(images) for m in (mirrored, plain)]
    bytes_kept = [
        len(m.stored) + FrequencyTables.of(c).entropy(c) / 8 for m, c in zip((mirrored, plain), cues, strict=True)
    ]
    assert len(mirrored.stored) < len(plain.stored) / 2
    assert bytes_kept[0] < bytes_kept[1]
    quality = [psnr(complete(m.completion, m.encode(unseen)), unseen) for m in (mirrored, plain)]
    assert quality[0] > quality[1] + 1


def test_scans_with_a_left_and_a_right_have_no_symmetry():
    """Each line keeps a shadow at its right and lower side."""
    images = streaks(400)
    images[:, 8:] = images[:, 8:] // 4 + images[:, :8] // 3
    images[:, :, 8:] = images[:, :, 8:] // 5 + images[:, :, :8] // 2
    assert fit(images, LinearMemory(step=0.2), seed=1).completion.shape.symmetry == 1
