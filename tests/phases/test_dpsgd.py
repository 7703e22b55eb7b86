"""DP-SGD: plain descent where neither clipping nor noise acts, bounded steps where they do."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet18 as torchvisions

from braincl_med.cortex.backbones import resnet18
from braincl_med.phases.dpsgd import Sampling, descend
from braincl_med.settings.config import CortexConfig
from braincl_med.settings.privacy import PrivacyConfig

pytest.importorskip("opacus")


def line(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(4, 3)


def data(count=20):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 4, generator=generator), torch.arange(count) % 3


def run(network, inputs, labels, steps=3, rate=1.0, multiplier=1e-9, clipping=1e6, learning_rate=0.5):
    privacy = PrivacyConfig(noise_multiplier=multiplier, clipping=clipping)
    optimiser = torch.optim.SGD(network.parameters(), learning_rate)
    descend(network, optimiser, inputs, labels, Sampling(rate, steps), privacy, lambda passes: learning_rate)
    return network.weight.detach()


def test_with_all_samples_and_nearly_no_noise_it_is_gradient_descent():
    inputs, labels = data()
    plain = line()
    optimiser = torch.optim.SGD(plain.parameters(), 0.5)
    for _ in range(3):
        optimiser.zero_grad()
        functional.cross_entropy(plain(inputs), labels).backward()
        optimiser.step()
    torch.testing.assert_close(run(line(), inputs, labels, clipping=1e3), plain.weight.detach(), rtol=1e-4, atol=1e-5)


def test_one_sample_moves_a_step_by_no_more_than_its_clipped_share():
    inputs, labels = data()
    loud = inputs.clone()
    loud[0] *= -1e4
    before = line().weight.detach()
    moved = [run(line(), x, labels, steps=1, clipping=0.1) - before for x in (inputs, loud)]
    assert float((moved[1] - moved[0]).norm()) <= 2 * 0.5 * 0.1 / len(inputs) + 1e-6
    free = [run(line(), x, labels, steps=1, clipping=1e3) - before for x in (inputs, loud)]
    assert float((free[1] - free[0]).norm()) > 1, "without clipping it is moved as far as the sample likes"


def test_noise_has_the_size_that_is_accounted_for_and_follows_no_seed():
    inputs, labels = data(4)
    steps = []
    for _ in range(200):
        torch.manual_seed(7)
        steps.append(run(line(), inputs * 0, labels, steps=1, multiplier=2.0, clipping=0.5, learning_rate=1.0))
    # Zero inputs have no gradient in the weights: what is left is noise of m C / (q n).
    assert float(torch.stack(steps).std(0).mean()) == pytest.approx(2.0 * 0.5 / 4, rel=0.1)


def test_a_batch_that_is_drawn_empty_is_a_step_of_noise():
    inputs, labels = data(2)
    before = line().weight.detach()
    assert not torch.equal(run(line(), inputs, labels, steps=1, rate=1e-9, multiplier=1.0, clipping=1.0), before)


def test_samples_are_drawn_as_often_as_they_are_accounted_for():
    assert Sampling.of(100, 10, 3) == Sampling(0.1, 30)
    assert Sampling.of(5, 10, 3) == Sampling(1.0, 3)


def test_the_block_without_operations_in_place_computes_what_torchvisions_does():
    torch.manual_seed(0)
    ours = resnet18(CortexConfig(stem="imagenet")).eval()
    theirs = torchvisions(weights=None).eval()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    scans = torch.rand(2, 3, 32, 32)
    assert torch.equal(ours(scans), theirs(scans))


def test_a_sample_whose_gradient_is_no_number_spoils_nothing_by_which_it_could_be_told():
    inputs, labels = data()
    odd = inputs.clone()
    odd[0] = torch.inf
    before = line().weight.detach()
    moved = [run(line(), x, labels, steps=1, clipping=0.1) - before for x in (inputs, odd)]
    assert bool(moved[1].isfinite().all())
    assert float((moved[1] - moved[0]).norm()) <= 2 * 0.5 * 0.1 / len(inputs) + 1e-6
