import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from braincl_med.foundation.errors import VaultError
from braincl_med.memory.module import complete, fit
from braincl_med.memory.networks import MemoryShape, PatternCompletion
from braincl_med.memory.rounding import round_all
from braincl_med.memory.symmetry import spectrum
from braincl_med.memory.training import as_tensor
from braincl_med.memory.weights import CodedTensor, pack, round_weights, sensitivities, unpack
from braincl_med.settings.memory import LinearMemory, PaperMemory
from tests.memory.test_module import blobs, edged, psnr

SHAPE = MemoryShape(3, 16, 16, 10, 0, 4, linear=True, refining_channels=4)


def network(shape=SHAPE, seed=0):
    torch.manual_seed(seed)
    return PatternCompletion(shape)


def ones(completion):
    """Equal sensitivities for all rows."""
    return {n: np.ones(len(p) if p.ndim > 3 else 1) for n, p in completion.named_parameters() if p.ndim > 1}


@pytest.mark.parametrize("shape", [SHAPE, MemoryShape(3, 16, 16, 10, 6, 4, linear=False)])
def test_a_network_comes_back_rounded_by_at_most_a_step(shape):
    completion = network(shape)
    coded = round_weights(completion, ones(completion), 1e-2)
    again, read = unpack(pack(completion, coded), shape)
    assert all(np.array_equal(read[n].integers, coded[n].integers) for n in coded)
    for name, parameter in completion.named_parameters():
        if parameter.ndim == 1:
            assert torch.equal(again.get_parameter(name), parameter.half().float())
            continue
        spectra = [
            spectrum(p.detach().numpy().reshape(-1, *p.shape[-3:]), 1)
            if name in ("synthesis.weight", "mean")
            else p.detach().numpy()
            for p in (parameter, again.get_parameter(name))
        ]
        assert np.abs(spectra[0] - spectra[1]).max() <= 1e-2


def test_the_bytes_are_the_same_whatever_the_number_of_threads_and_say_all_there_is():
    completion = network()
    content = pack(completion, round_weights(completion, ones(completion), 1e-3))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 3)
        assert pack(*unpack(content, SHAPE)) == content
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kinds", [(4, 6), (3, 2, 4, 1), (2, 2, 1, 1, 2, 2), (0, 1, 0, 0, 1, 1), (10, 0, 0, 0)])
def test_components_of_every_kind_come_back(kinds):
    shape = MemoryShape(3, 16, 16, sum(kinds), 0, 4, linear=True, kinds=kinds)
    completion = network(shape)
    content = pack(completion, round_weights(completion, ones(completion), 1e-2))
    again, coded = unpack(content, shape)
    assert pack(again, coded) == content
    assert pack(again, round_weights(again, ones(again), 1e-2)) == content
    if kinds == (2, 2, 1, 1, 2, 2):
        rows = again.synthesis.weight.detach()
        assert torch.allclose(rows[6:8].swapaxes(2, 3), rows[8:10], atol=1e-6)
        assert torch.allclose(rows[:2], rows[:2].flip(2), atol=1e-6)
        assert torch.allclose(rows[:2], rows[:2].swapaxes(2, 3), atol=1e-6)
        assert torch.allclose(rows[4], -rows[4].flip(1), atol=1e-6)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 2), st.floats(-6, 0))
def test_integers_of_any_spread_survive(seed, spread, step):
    shape = MemoryShape(3, 8, 8, 6, 0, 3, linear=True, refining_channels=2)
    completion = network(shape)
    rng = np.random.default_rng(seed)
    for parameter in completion.parameters():
        parameter.data = torch.from_numpy((rng.laplace(size=parameter.shape) * 10**spread).astype(np.float32))
    coded = round_weights(completion, ones(completion), 10**step)
    _, read = unpack(pack(completion, coded), shape)
    assert all(np.array_equal(read[n].integers, coded[n].integers) for n in coded)
    assert all(np.array_equal(read[n].steps, coded[n].steps) for n in coded)


def test_sensitivities_agree_with_the_whole_jacobian():
    completion = network(MemoryShape(1, 8, 8, 3, 0, 3, linear=True, refining_channels=2))
    cues = torch.randn(6, 3, 1, 1).mul(3).round()
    estimated = sensitivities(completion, cues, records=60, seed=0, probes=400)
    names = list(estimated)
    values = tuple(completion.get_parameter(name).detach() for name in names)

    def recalls(*weights):
        return torch.func.functional_call(completion, dict(zip(names, weights, strict=True)), (cues,)).flatten()

    for name, jacobian in zip(names, torch.autograd.functional.jacobian(recalls, values), strict=True):
        exact = (jacobian**2).sum(0)
        rows = exact.flatten(1).mean(1) if exact.ndim > 3 else exact.mean().reshape(1)
        assert np.allclose(estimated[name], 10 * rows.numpy(), rtol=0.15)


def test_a_row_that_the_recalls_depend_on_less_is_rounded_more_coarsely():
    rows = CodedTensor.of("any", torch.ones(2, 1, 5, 5), np.array([100.0, 1.0]), 0.1)
    assert rows.steps[0] > rows.steps[1]
    assert (rows.integers[0] > rows.integers[1]).all()


def test_rounding_costs_a_twelfth_of_the_square_of_the_step_a_weight():
    """The law that sets the steps, on the linear path, where it is exact on average."""
    images = edged(300)
    exact = fit(images, LinearMemory(components=48, step=0.3, weight_step=1e-4), seed=1)
    cues = torch.from_numpy(exact.encode(images).astype(np.float32))
    worth = sensitivities(exact.completion, cues[:64], len(images), seed=0)
    rounded, coded = unpack(
        pack(exact.completion, round_weights(exact.completion, worth, 0.02)), exact.completion.shape
    )
    with torch.no_grad():
        moved = float(((rounded(cues) - exact.completion(cues)) ** 2).sum())
    alive = sum(int((c.integers != 0).sum()) for c in coded.values())
    assert alive * 0.02**2 / 12 * 0.4 < moved < sum(c.integers.size for c in coded.values()) * 0.02**2 / 12 * 2.5


def recall_loss(completion, stored, separation, images):
    """By how many dB rounding moves the recalls away from the scans."""
    scans = as_tensor(images, completion.shape.channels)
    with torch.no_grad():
        cues = separation(scans).round()
        exact, rounded = (
            functional.mse_loss(n(cues), scans) for n in (completion, unpack(stored, completion.shape)[0])
        )
    return 10 * float(torch.log10(rounded / exact))


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_the_papers_network_takes_a_sixth_of_its_bytes_for_a_tenth_of_a_decibel(preset):
    images = edged(64, size=16)
    config = PaperMemory(preset=preset, quantisation="mixed", learning_rate=1e-3, epochs=4, batch_size=16)
    config = config.model_copy(update={"weight_step": 1e-7})
    module = fit(images, config, seed=1)
    stored = pack(*round_all(module.separation, module.completion, images, None, seed=1))
    single = 4 * sum(p.numel() for p in module.completion.parameters())
    assert len(stored) <= single / 6
    assert recall_loss(module.completion, stored, module.separation, images) <= 0.1 + 0.05


def test_the_linear_path_takes_a_sixth_of_its_bytes_for_a_tenth_of_a_decibel():
    images = edged(500)
    exact = fit(images, LinearMemory(components=64, weight_step=1e-4), seed=1)
    rounded = fit(images, LinearMemory(components=64, weight_step=0.05), seed=1)
    quality = [psnr(complete(m.completion, m.encode(images)), images) for m in (exact, rounded)]
    single = 4 * sum(p.numel() for p in exact.completion.parameters())
    assert len(rounded.stored) <= single / 6
    assert quality[1] >= quality[0] - 0.1


@pytest.mark.parametrize("cut", [1, 4, 40, 400])
def test_a_network_that_ends_early_is_refused(cut):
    completion = network()
    content = pack(completion, round_weights(completion, ones(completion), 1e-2))
    with pytest.raises(VaultError, match="completion network"):
        unpack(content[:-cut], SHAPE)


def test_a_network_that_holds_more_is_refused():
    completion = network()
    content = pack(completion, round_weights(completion, ones(completion), 1e-2))
    with pytest.raises(VaultError, match="more than its weights"):
        unpack(content + b"secret text.", SHAPE)


def test_smooth_scans_need_fewer_bytes_than_rough_ones():
    images = blobs(200)
    rough = np.random.default_rng(0).permuted(images.reshape(200, -1), axis=1).reshape(images.shape)
    smooth, other = (fit(i, LinearMemory(components=20), seed=1) for i in (images, rough))
    per_weight = [len(m.stored) / m.completion.shape.cue_channels for m in (smooth, other)]
    assert per_weight[0] < per_weight[1] / 2
