"""What releases cost together, against Opacus and against Flower's own accountant."""

import pytest

from braincl_med.dp.accountant import Spent, epsilon
from braincl_med.dp.gaussian import multiplier_for

DELTA = 1e-5
SAMPLED = [
    ([Spent(1.1, 0.05, 300)], 5.369049871126987),
    ([Spent(2.0, 0.02, 1000), Spent(0.8, 0.01, 100)], 2.5141312985354336),
]
"""Releases, and what `flwr.serverapp.RdpAccountant` (Flower 1.41, dp-accounting 0.6.0) says of them."""


def test_releases_of_all_scans_compose_exactly_and_below_any_renyi_bound():
    accountants = pytest.importorskip("opacus.accountants")
    bound = accountants.RDPAccountant()
    bound.history = [(3.0, 1.0, 1), (5.0, 1.0, 4)]
    told = epsilon([Spent(3.0), Spent(5.0, steps=4)], DELTA)
    assert 0.9 * bound.get_epsilon(DELTA) < told < bound.get_epsilon(DELTA)
    assert epsilon([Spent(multiplier_for(2, DELTA))], DELTA) == pytest.approx(2, rel=1e-6)
    assert epsilon([], DELTA) == 0


@pytest.mark.parametrize(("spent", "flower"), SAMPLED)
def test_sampled_releases_cost_what_flower_says_and_no_less_than_an_exact_account(spent, flower):
    accountants = pytest.importorskip("opacus.accountants")
    exact = accountants.PRVAccountant()
    exact.history = [(one.multiplier, one.rate, one.steps) for one in spent]
    told = epsilon(spent, DELTA)
    assert exact.get_epsilon(DELTA) < told
    assert told == pytest.approx(flower, rel=1e-3)
    assert told < epsilon([Spent(one.multiplier, steps=one.steps) for one in spent], DELTA)


def test_flowers_accountant_says_so_here_too():
    pytest.importorskip("dp_accounting", reason="dp-accounting 0.6 needs attrs below 24, beside which Flower is old")
    import flwr.supercore.privacy_accounting as flower
    from flwr.serverapp import RdpAccountant

    accountant = RdpAccountant(
        flower.PrivacyConfig(DELTA, 2000, flower.NeighboringRelation.ADD_OR_REMOVE_ONE, flower.SamplingMethod.POISSON)
    )
    accountant.compose(flower.GaussianPrivacyEvent(1.1, 100, 2000), 300)
    assert accountant.get_epsilon(DELTA) == pytest.approx(SAMPLED[0][1])
