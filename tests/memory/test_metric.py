import numpy as np
import pytest
import torch

from braincl_med.memory.metric import Metric
from braincl_med.memory.symmetry import SYMMETRIES

BLOCK = (3, 8, 8)


def gradients(block, count=40):
    """Gradients that are large at the left and small in the last channel."""
    values = np.random.default_rng(0).normal(size=(count, *block))
    values[..., : block[2] // 2] *= 5
    values[:, -1] *= 0.1
    return torch.from_numpy(values.reshape(count, -1).astype(np.float32))


def dense(values, symmetry, block, guidance):
    """The whole metric, from the mirror images of all gradients."""
    every = values.double().numpy().reshape(-1, *block)
    every = np.concatenate([every, every[..., ::-1]]) if symmetry > 1 else every
    every = np.concatenate([every, every[..., ::-1, :]]) if symmetry > 2 else every
    every = np.concatenate([every, every.swapaxes(2, 3)]) if symmetry > 4 else every
    product = every.reshape(len(every), -1).T @ every.reshape(len(every), -1)
    return (1 - guidance) * np.eye(len(product)) + guidance * product / np.diag(product).mean()


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_the_metric_is_that_of_all_mirror_images(symmetry):
    changes = torch.randn(20, 3 * 8 * 8, generator=torch.Generator().manual_seed(0))
    metric = Metric.of(gradients(BLOCK), symmetry, BLOCK, 0.6)
    expected = np.einsum("ni,ij,nj", changes, dense(gradients(BLOCK), symmetry, BLOCK, 0.6), changes)
    assert np.isclose(metric.error(changes), expected, rtol=1e-4)


def test_without_gradients_or_guidance_the_error_is_squared():
    changes = torch.randn(20, 3 * 8 * 8, generator=torch.Generator().manual_seed(0))
    plain = (Metric.of(torch.zeros(0, 192), 2, BLOCK, 0.5), Metric.of(torch.zeros(9, 192), 6, BLOCK, 0.5))
    for metric in (*plain, Metric.of(gradients(BLOCK), 4, BLOCK, 0), Metric.plain(1, BLOCK)):
        assert np.isclose(metric.error(changes), float(changes.square().sum()), rtol=1e-5)


def test_the_inverse_is_weighted_least_squares():
    rng = np.random.default_rng(1)
    basis, blocks = rng.normal(size=(12, 192)), rng.normal(size=(30, 192))
    metric = dense(gradients(BLOCK), 1, BLOCK, 0.8)
    rows = Metric.of(gradients(BLOCK), 1, BLOCK, 0.8).inverse(torch.from_numpy(basis).float(), np.zeros(12, int))
    expected = np.linalg.solve(basis @ metric @ basis.T, basis @ metric @ blocks.T).T
    assert np.allclose(blocks @ rows.double().numpy().T, expected, atol=1e-3)


def test_a_component_rounded_to_nothing_has_a_coordinate_of_nothing():
    basis = torch.zeros(2, 192)
    basis[0, :5] = 1.0
    rows = Metric.of(gradients(BLOCK), 1, BLOCK, 0.5).inverse(basis, np.zeros(2, int))
    assert torch.isfinite(rows).all()
    assert rows[1].abs().max() < 1e-6
