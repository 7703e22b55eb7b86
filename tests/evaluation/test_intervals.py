import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from braincl_med.evaluation.intervals import wilson


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
