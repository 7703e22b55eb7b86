import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from braincl_med.evaluation.intervals import auc_interval, wilson


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_agrees_with_scipy(counted: tuple[int, int]) -> None:
    theirs = binomtest(*counted).proportion_ci(0.95, "wilson")
    assert wilson(*counted) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_without_scans_nothing_is_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("counted", [(-1, 4), (5, 4)])
def test_impossible_counts_are_refused(counted: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="successes in 4 trials"):
        wilson(*counted)


def test_the_interval_of_an_area_covers_the_true_one_in_most_samples() -> None:
    rng = np.random.default_rng(0)
    true = float(norm.cdf(1 / np.sqrt(2)))  # of N(1, 1) against N(0, 1)
    covered = 0
    for _ in range(300):
        scores = np.concatenate([rng.normal(1, 1, 40), rng.normal(0, 1, 60)])
        low, high = auc_interval(float(roc_auc_score(np.repeat([1, 0], [40, 60]), scores)), 40, 60)
        covered += low <= true <= high
    assert 0.92 <= covered / 300 <= 0.98


@pytest.mark.parametrize("auc", [0.0, 0.3, 1.0])
def test_the_interval_of_an_area_stays_inside_and_narrows(auc: float) -> None:
    few, many = auc_interval(auc, 20, 30), auc_interval(auc, 200, 300)
    for low, high in (few, many):
        assert 0 <= low <= auc <= high <= 1
        assert low < high
    assert many[1] - many[0] < few[1] - few[0]
    assert auc_interval(1 - auc, 20, 30) == pytest.approx((1 - few[1], 1 - few[0]))


def test_of_an_area_without_scans_of_a_kind_nothing_is_known() -> None:
    assert auc_interval(0.5, 0, 10) == auc_interval(0.5, 10, 0) == (0, 1)
    with pytest.raises(ValueError, match=r"an area of 1\.1"):
        auc_interval(1.1, 5, 5)
