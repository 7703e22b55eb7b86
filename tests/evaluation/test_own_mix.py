"""Accuracy as hospitals with their own mix of diagnoses would see it."""

import numpy as np
import pytest

from braincl_med.evaluation.own_mix import own_mix


def test_a_hospital_sees_what_a_draw_of_test_scans_with_its_own_shares_would_show() -> None:
    rng = np.random.default_rng(3)
    confusion = rng.integers(1, 40, (5, 5))
    trained = rng.integers(0, 30, (3, 5))
    found = own_mix(confusion, trained)
    for shares, value in zip(trained, found, strict=True):
        true = rng.choice(5, 200_000, p=shares / shares.sum())
        chances = confusion[true, true] / confusion[true].sum(1)
        assert (rng.random(len(true)) < chances).mean() == pytest.approx(value, abs=0.006)


def test_one_class_alone_counts_alone_and_even_shares_give_the_mean_of_classes() -> None:
    confusion = np.array([[9, 1], [6, 4]])
    assert own_mix(confusion, np.array([[0, 7], [3, 0], [5, 5]])) == pytest.approx([0.4, 0.9, 0.65])


def test_classes_without_test_scans_count_for_nothing_and_nobody_is_given_a_figure_of_none() -> None:
    confusion = np.array([[8, 2, 0], [0, 5, 5], [0, 0, 0]])
    found = own_mix(confusion, np.array([[10, 0, 90], [0, 0, 4], [0, 0, 0]]))
    assert found[0] == pytest.approx(0.8)
    assert np.isnan(found[1:]).all()
