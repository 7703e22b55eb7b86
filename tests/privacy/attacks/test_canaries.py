"""ε from below: under the ledger's for the mechanism as it is, above for one that is broken on purpose."""

import numpy as np
import pytest
import torch

from braincl_med.dp.accountant import Spent, epsilon
from braincl_med.dp.gaussian import multiplier_for
from braincl_med.dp.statistics import released, statistics
from braincl_med.phases.dpsgd import Sampling, descend
from braincl_med.privacy.attacks.canaries import canaries_in_statistics, measured
from braincl_med.settings.privacy import PrivacyConfig

DELTA = 1e-5
WIDTH, CLASSES, CANARIES = 32, 4, 300


def release(multiplier, seed):
    generator = np.random.default_rng(seed)
    return lambda features, labels: released(
        statistics(features, labels, CLASSES), range(CLASSES), multiplier, generator
    )


@pytest.mark.parametrize("nominal", [1.0, 3.0, 8.0])
def test_the_measured_epsilon_of_a_release_lies_below_the_ledgers(nominal):
    multiplier = multiplier_for(nominal, DELTA)
    bounds = [
        canaries_in_statistics(release(multiplier, seed), WIDTH, CLASSES, CANARIES, DELTA, seed).epsilon
        for seed in range(5)
    ]
    assert max(bounds) < nominal
    if nominal == 8:
        assert np.mean(bounds) > 0.5, "it is no bound that says nothing"


def test_the_measured_epsilon_lies_above_the_ledgers_when_the_noise_is_not_what_was_entered():
    told = release(multiplier_for(1.0, DELTA) / 20, 0)
    assert canaries_in_statistics(told, WIDTH, CLASSES, CANARIES, DELTA, 0).epsilon > 1.5


def test_without_noise_nearly_every_coin_is_guessed():
    found = canaries_in_statistics(release(0.0, 0), WIDTH, CLASSES, CANARIES, DELTA, 0)
    assert found.right > 0.99 * found.guesses
    assert found.epsilon > 3


def test_scores_that_know_nothing_measure_nothing():
    generator = np.random.default_rng(0)
    bounds = [measured(generator.standard_normal(400), generator.random(400) < 0.5, DELTA).epsilon for _ in range(40)]
    assert np.mean(np.array(bounds) > 0) <= 0.1


def _by_updates(entered, real, seed):
    """ε by canaries in DP-SGD of a linear layer, each with an input of its own, and what a ledger would say."""
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = torch.eye(200), torch.randint(0, 2, (200,), generator=generator)
    included = torch.rand(200, generator=generator) < 0.5
    network = torch.nn.Linear(200, 2)
    torch.nn.init.zeros_(network.weight)
    optimiser = torch.optim.SGD(network.parameters(), 1.0)
    sampling = Sampling(0.5, 20)
    privacy = PrivacyConfig(noise_multiplier=real, clipping=0.1)
    descend(network, optimiser, inputs[included], labels[included], sampling, privacy, lambda passes: 1.0)
    scores = network.weight.detach().T[torch.arange(200), labels].double().numpy()
    return measured(scores, included.numpy(), DELTA).epsilon, epsilon([Spent(entered, 0.5, 20)], DELTA)


def test_so_it_is_for_updates():
    pytest.importorskip("opacus")
    sound = [_by_updates(3.0, 3.0, seed) for seed in range(3)]
    assert all(bound < ledger for bound, ledger in sound)
    bound, ledger = _by_updates(6.0, 0.05, 0)
    assert bound > ledger
