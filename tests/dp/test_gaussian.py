"""The Gaussian mechanism against other formulas for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from braincl_med.dp.gaussian import delta_of, epsilon_of, multiplier_for, noise, together


@given(st.floats(0.05, 50), st.floats(0, 30))
def test_delta_is_what_the_privacy_loss_says(multiplier, epsilon):
    # The loss of a Gaussian release is itself normal, with mean 1 / 2m² and deviation 1 / m: δ = E[(1 − e^(ε − L))⁺].
    exact = norm.cdf(0.5 / multiplier - epsilon * multiplier) - np.exp(
        epsilon + norm.logcdf(-0.5 / multiplier - epsilon * multiplier)
    )
    assert delta_of(multiplier, epsilon) == pytest.approx(max(0, exact), rel=1e-6, abs=1e-12)


@given(st.floats(0.1, 20), st.sampled_from([1e-3, 1e-5, 1e-8]))
def test_the_multiplier_for_an_epsilon_spends_it_and_no_more(epsilon, delta):
    multiplier = multiplier_for(epsilon, delta)
    assert epsilon_of(multiplier, delta) == pytest.approx(epsilon, rel=1e-6)
    assert delta_of(multiplier * 0.999, epsilon) > delta


def test_the_exact_multiplier_is_smaller_than_the_textbooks():
    assert multiplier_for(0.9, 1e-5) < np.sqrt(2 * np.log(1.25e5)) / 0.9


def test_without_noise_there_is_no_privacy():
    assert epsilon_of(0, 1e-5) == np.inf


def test_several_releases_are_as_one_with_less_noise():
    assert together([2.0] * 4) == pytest.approx(1)
    assert together([]) == np.inf
    assert together([3, 0]) == 0


def test_noise_has_the_deviation_asked_for():
    drawn = noise((200, 500), 3.0, np.random.default_rng(0))
    assert drawn.std() == pytest.approx(3, rel=0.02)
    assert abs(drawn.mean()) < 0.05
    assert not noise((3,), 0, np.random.default_rng(0)).any()
