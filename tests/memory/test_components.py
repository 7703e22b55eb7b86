import numpy as np
import pytest
import torch

from braincl_med.memory.components import principal_components, start_from_principal_components
from braincl_med.memory.metric import Metric
from braincl_med.memory.networks import MemoryShape, PatternCompletion, PatternSeparation
from braincl_med.memory.symmetry import SYMMETRIES
from tests.memory.test_metric import dense, gradients
from tests.memory.test_module import blobs, psnr
from tests.memory.test_symmetry import mirrored, streaks


def test_principal_components_agree_with_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    images = blobs(60, size=16)
    scans = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    shape = MemoryShape(3, 16, 16, 8, 4, 4, linear=True)
    found = principal_components(scans, shape, Metric.plain(1, (3, 16, 16)), 0, 8)
    oracle = decomposition.PCA(8, svd_solver="full").fit(scans.flatten(1).numpy())
    assert np.allclose(found.deviations, oracle.explained_variance_**0.5, rtol=1e-3)
    assert np.allclose(np.abs((found.basis.numpy() * oracle.components_).sum(1)), 1, atol=1e-3)


def test_the_linear_path_is_a_quantised_principal_component_analysis():
    images = blobs(80)
    flat = images.reshape(80, -1) / 255
    mean = flat.mean(0)
    basis = np.linalg.svd(flat - mean, full_matrices=False)[2][:40]
    expected = np.rint((flat - mean) @ basis.T / 0.2)
    scans = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    shape = MemoryShape(3, 28, 28, 40, 0, 5, linear=True)
    found = principal_components(scans, shape, Metric.plain(1, (3, 28, 28)), 0, 40)
    separation, completion = PatternSeparation(shape), PatternCompletion(shape)
    start_from_principal_components(separation, completion, found, 0.2)
    with torch.no_grad():
        cues = separation(scans).round()
        recalled = completion(cues).clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255
    signs = np.sign((cues[:, :, 0, 0].numpy() * expected).sum(0))
    assert (cues[:, :, 0, 0].numpy() * signs == expected).mean() > 0.99
    assert psnr(recalled, (mean + expected * 0.2 @ basis).clip(0, 1).reshape(images.shape) * 255) > 50


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_under_a_metric_no_other_components_lose_less(symmetry):
    """The oracle takes the square root of the whole metric and the components of all mirror images together."""
    images = streaks(60)
    shape, block = MemoryShape(3, 16, 16, 8, 0, 4, linear=True), (3, 16, 16)
    found = principal_components(
        torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,
        shape,
        Metric.of(gradients(block), symmetry, block, 0.7),
        0,
        30,
    )
    weights, vectors = np.linalg.eigh(dense(gradients(block), symmetry, block, 0.7))
    root = vectors * np.sqrt(weights) @ vectors.T
    every = (mirrored(images, symmetry) if symmetry > 1 else images).transpose(0, 3, 1, 2).reshape(
        -1, 3 * 16 * 16
    ) / 255
    variances = np.linalg.eigvalsh(np.cov((every @ root).T, bias=True))[::-1][:24]
    # One degree of freedom less a kind on one side, less in all on the other.
    assert np.allclose(np.sort(found.deviations.numpy() ** 2)[::-1][:24], variances, rtol=0.04)
    assert np.allclose(found.inverse @ found.basis.T, np.eye(len(found.basis)), atol=1e-4)
