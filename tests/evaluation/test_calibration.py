import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import multiclass_calibration_error

from braincl_med.evaluation.calibration import FINE, MIDDLES, calibration_error, referrals, reliability
from braincl_med.evaluation.intervals import wilson

seeds = st.integers(0, 100_000)


def answers(seed: int, scans: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Confidences at the middles of bins, whether the answers are right, and both histograms."""
    rng = np.random.default_rng(seed)
    place = rng.integers(15, len(MIDDLES), scans)
    confidence, right = MIDDLES[place], rng.random(scans) < 0.7
    counts = [np.bincount(place[which], minlength=len(MIDDLES)) for which in (right, ~right)]
    return confidence, right, counts[0], counts[1]


@given(seeds)
def test_the_reliability_curve_is_scikit_learns(seed: int) -> None:
    confidence, right, good, bad = answers(seed)
    rows = reliability(good, bad)
    accuracy, mean = calibration_curve(right, confidence, n_bins=10)
    assert [row.accuracy for row in rows] == pytest.approx(list(accuracy), abs=1e-6)
    assert [row.confidence for row in rows] == pytest.approx(list(mean), abs=1e-6)
    assert sum(row.scans for row in rows) == len(confidence)
    assert all(row.interval == wilson(round(row.accuracy * row.scans), row.scans) for row in rows)


@given(seeds)
def test_the_calibration_error_is_torchmetrics(seed: int) -> None:
    confidence, right, good, bad = answers(seed)
    classes = 12
    others = (1 - confidence[:, None]) / (classes - 1)
    probabilities = np.concatenate([confidence[:, None], np.repeat(others, classes - 1, axis=1)], axis=1)
    theirs = multiclass_calibration_error(
        torch.tensor(probabilities), torch.tensor(np.where(right, 0, 1)), classes, n_bins=10, norm="l1"
    )
    assert calibration_error(good, bad) == pytest.approx(float(theirs), abs=1e-6)


def test_who_is_as_right_as_sure_has_no_error() -> None:
    good, bad = np.zeros(len(MIDDLES), int), np.zeros(len(MIDDLES), int)
    good[50], bad[50] = 505, 495  # the middle of 0.50 to 0.51
    assert calibration_error(good, bad) == pytest.approx(0, abs=1e-12)
    assert np.isnan(calibration_error(bad * 0, bad * 0))


@given(seeds)
def test_referral_leaves_the_surest(seed: int) -> None:
    confidence, right, good, bad = answers(seed)
    for row in referrals(good, bad):
        # Sorted by hand: the threshold is the least confidence such that enough lie below it.
        levels = [level for level in (0, *FINE, 2) if (confidence < level).mean() >= row.asked - 1e-9]
        kept = confidence >= min(levels)
        assert row.answered == kept.sum()
        assert row.referred == pytest.approx((~kept).mean())
        assert row.referred >= row.asked - 1e-9
        if kept.any():
            assert row.accuracy == pytest.approx(right[kept].mean())
            assert row.interval == wilson(int(right[kept].sum()), int(kept.sum()))
    assert referrals(good, bad)[0].answered == len(confidence)


def test_nothing_is_said_of_no_scans() -> None:
    none = np.zeros(len(MIDDLES), int)
    assert referrals(none, none) == []
    assert reliability(none, none) == []
