"""A basis that no scan taught: recalls depend on their own scan alone, and the file holds no network to speak of."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn

from braincl_med.foundation.errors import VaultError
from braincl_med.memory.fixed import COLOURS, candidates, unpack_fixed
from braincl_med.memory.module import complete, fit
from braincl_med.memory.networks import MemoryShape
from braincl_med.settings.memory import LinearMemory

FIXED = LinearMemory(basis="fixed", step=0.2)


def scans(count=12, seed=0, size=28):
    generator = np.random.default_rng(seed)
    low = generator.integers(0, 256, (count, size // 4, size // 4, 3))
    return np.repeat(np.repeat(low, 4, 1), 4, 2).astype(np.uint8)


def test_the_basis_is_scipys_cosine_transform_in_orthonormal_colours():
    basis = candidates((6, 4))
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-5)
    scan = np.random.default_rng(0).random((3, 6, 4))
    expected = dctn(np.einsum("kc,chw->khw", COLOURS, scan), axes=(1, 2), norm="ortho")
    np.testing.assert_allclose(np.sort(basis @ scan.ravel()), np.sort(expected.ravel()), atol=1e-5)
    assert basis[0] == pytest.approx(basis[0][0]), "the first is the mean"


def test_a_recall_depends_on_its_own_scan_alone():
    images = scans()
    together = fit(images, FIXED, 1)
    recalls = complete(together.completion, together.encode(images))
    for number in range(3):
        alone = fit(images[number : number + 1], FIXED, 2)
        recall = complete(alone.completion, alone.encode(images[number : number + 1]))
        assert np.abs(recall[0].astype(int) - recalls[number]).max() <= 1, "but for rounding of the last bit"


def test_a_finer_step_recalls_better_and_the_network_takes_hardly_a_byte_a_coefficient():
    images = scans()
    errors = []
    for step in (0.8, 0.2, 0.05):
        module = fit(images, LinearMemory(basis="fixed", step=step, components=4096), 1)
        recalls = complete(module.completion, module.encode(images))
        errors.append(float(((recalls / 255.0 - images / 255.0) ** 2).mean()))
        assert len(module.stored) <= 4 + 3 * 28 * 28 / 8
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05**2 / 12 * 1.1, "that of rounding with this step"


def test_scans_of_several_blocks_are_whole_again():
    images = scans(size=40)
    module = fit(images, LinearMemory(basis="fixed", step=0.05, components=4096), 1)
    assert np.abs(complete(module.completion, module.encode(images)) - images.astype(float)).mean() < 3


@settings(max_examples=50)
@given(st.binary(max_size=400))
def test_bytes_that_are_no_fixed_basis_are_refused(content):
    shape = MemoryShape(3, 28, 28, 40, 0, 5, True, basis="dct")
    with pytest.raises(VaultError, match="damaged"):
        unpack_fixed(content, shape)


@pytest.mark.parametrize("change", [{"channels": 1}, {"refining_channels": 4}, {"basis": "wavelet"}])
def test_shapes_that_no_fixed_basis_has_are_refused(change):
    with pytest.raises(VaultError, match="basis"):
        MemoryShape(**{**MemoryShape(3, 28, 28, 40, 0, 5, True).as_json(), "basis": "dct", **change})
