import numpy as np
import pytest
import torch

from braincl_med.memory.entropy import PiecewiseLinearEntropy
from braincl_med.memory.module import complete, fit
from braincl_med.memory.networks import MemoryShape, PatternCompletion, PatternSeparation, pad
from braincl_med.settings.memory import LinearMemory, PaperMemory


def blobs(count, size=28, grey=False, seed=0):
    """Scans with one smooth blob each, coloured or grey."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    centre = rng.uniform(size * 0.3, size * 0.7, (count, 2))
    width = rng.uniform(size * 0.1, size * 0.25, count)
    distance = (rows - centre[:, :1, None]) ** 2 + (columns - centre[:, 1:, None]) ** 2
    shape = np.exp(-distance / (2 * width[:, None, None] ** 2))
    tint = np.ones((count, 3)) if grey else rng.uniform(0.3, 1, (count, 3))
    return (shape[..., None] * tint[:, None, None] * 255).astype(np.uint8)


def psnr(first, second):
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2))


def test_the_paper_networks_have_the_published_shapes_and_size():
    shape = MemoryShape(3, 64, 64, 192, 128, 4, linear=False)
    completion = PatternCompletion(shape)
    cues = PatternSeparation(shape)(torch.rand(2, 3, 64, 64))
    assert cues.shape == (2, 192, 4, 4)
    assert completion(cues).shape == (2, 3, 64, 64)
    assert sum(p.numel() for p in completion.parameters()) == 1_443_587


@pytest.mark.parametrize("size", [28, 30, 45])
@pytest.mark.parametrize("down_samplings", [3, 4, 5])
@pytest.mark.parametrize("linear", [False, True])
def test_any_size_is_padded_and_cropped_back(size, down_samplings, linear):
    shape = MemoryShape(3, size, size + 1, 6, 4, down_samplings, linear)
    cues = PatternSeparation(shape)(torch.rand(2, 3, size, size + 1))
    assert tuple(cues.shape[1:]) == shape.cue
    assert PatternCompletion(shape)(cues).shape == (2, 3, size, size + 1)


def test_padding_reflects():
    row = torch.arange(4.0).reshape(1, 1, 1, 4).expand(1, 1, 4, 4)
    assert pad(row, (4, 6))[0, 0, 0].tolist() == [0, 1, 2, 3, 2, 1]


def edged(count, size=28, seed=0):
    """Blobs with a sharp edge, which a linear path blurs."""
    return np.where(blobs(count, size, seed=seed) > 90, 220, 40).astype(np.uint8)


def test_refining_convolutions_improve_the_recall_for_few_bytes():
    images = edged(300)
    plain = fit(images, LinearMemory(components=48, step=0.5), seed=1)
    refined = fit(images, LinearMemory(components=48, step=0.5, refining_channels=16, epochs=20), seed=1)
    quality = [psnr(complete(m.completion, m.encode(images)), images) for m in (plain, refined)]
    assert np.array_equal(plain.encode(images), refined.encode(images))
    assert quality[1] > quality[0] + 1
    assert len(refined.stored) < len(plain.stored) + 4000


def test_refining_convolutions_that_do_not_pay_are_dropped():
    module = fit(blobs(20), LinearMemory(step=1.0, refining_channels=16, epochs=1), seed=1)
    assert module.completion.refinement is None
    assert module.completion.shape.refining_channels == 0


def test_the_worth_of_a_bit_is_that_of_the_cues_and_not_of_the_weights():
    """Weights that may be rounded very coarsely do not make bits so dear that nothing is refined."""
    config = LinearMemory(components=24, step=0.5, weight_step=8, refining_channels=8, epochs=12)
    assert fit(edged(100), config, seed=1).completion.refinement is not None


def test_training_improves_recall_and_mixed_beats_noise_after_hard_rounding():
    images = blobs(200)
    quality = {}
    for quantisation in ("mixed", "noise"):
        config = PaperMemory(quantisation=quantisation, learning_rate=1e-3, epochs=15)
        module = fit(images, config, seed=1)
        quality[quantisation] = psnr(complete(module.completion, module.encode(images)), images)
    start = fit(images, PaperMemory(learning_rate=1e-9, epochs=1), seed=1)
    untrained = psnr(complete(start.completion, start.encode(images)), images)
    assert quality["mixed"] > untrained + 3
    assert quality["mixed"] > quality["noise"]


def test_a_larger_lambda_gives_smaller_cues():
    images = blobs(100, size=16)
    bits = []
    for weight in (1e-5, 1e-1):
        config = PaperMemory(quantisation="mixed", lambda_=weight, epochs=8, learning_rate=1e-3)
        cues = fit(images, config, seed=1).encode(images)
        bits.append(np.abs(cues).astype(float).mean())
    assert bits[1] < bits[0]


def test_the_same_seed_gives_the_same_cues_and_another_seed_others():
    images = blobs(40)
    config = PaperMemory(epochs=2, learning_rate=1e-3)
    first, second, other = (fit(images, config, seed) for seed in (3, 3, 4))
    assert np.array_equal(first.encode(images), second.encode(images))
    weights = [m.separation.state_dict()["convolutions.0.weight"] for m in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_grey_scans_keep_one_channel_and_come_back_with_three_equal_ones():
    images = blobs(50, grey=True)
    module = fit(images, LinearMemory(components=20), seed=1)
    recalled = complete(module.completion, module.encode(images))
    assert module.completion.shape.channels == 1
    assert (recalled[..., :1] == recalled).all()
    assert psnr(recalled, images) > 20


def test_one_scan_is_enough_and_none_is_refused():
    module = fit(blobs(1), LinearMemory(), seed=1)
    assert module.encode(blobs(1)).shape[0] == 1
    with pytest.raises(ValueError, match="at least one scan"):
        fit(blobs(0), LinearMemory(), seed=1)


def test_training_stops_when_nothing_improves():
    module = fit(blobs(30), PaperMemory(epochs=50, learning_rate=1e-12, patience=3), seed=1)
    assert module.epochs < 50


def test_the_cdf_is_monotone_from_zero_to_one_and_counts_every_symbol_once():
    torch.manual_seed(0)
    model = PiecewiseLinearEntropy(torch.randn(64, 5, 2, 2) * torch.tensor([0.1, 1, 5, 20, 80]).reshape(1, 5, 1, 1))
    grid = torch.linspace(-2000, 2000, 8001).expand(5, -1)
    levels = model.cdf(grid)
    assert (levels.diff(dim=1) >= -1e-6).all()
    assert torch.allclose(levels[:, 0], torch.zeros(5))
    assert torch.allclose(levels[:, -1], torch.ones(5), atol=1e-5)
    symbols = torch.arange(-1500.0, 1501).expand(5, -1)
    assert torch.allclose((model.cdf(symbols + 0.5) - model.cdf(symbols - 0.5)).sum(1), torch.ones(5), atol=1e-4)


def test_a_fitted_entropy_model_comes_near_the_empirical_entropy():
    torch.manual_seed(0)
    cues = (torch.randn(4000, 3, 1, 1) * torch.tensor([1.0, 3.0, 9.0]).reshape(1, 3, 1, 1)).round()
    model = PiecewiseLinearEntropy(cues)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        loss = model(cues)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    empirical = 0.0
    for channel in range(3):
        counts = np.unique(cues[:, channel].numpy(), return_counts=True)[1]
        empirical -= (counts / counts.sum() * np.log2(counts / counts.sum())).sum() / 3
    assert empirical - 1e-3 <= model(cues).item() < empirical * 1.05
