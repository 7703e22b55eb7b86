import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame
from scipy.stats import hypergeom
from sklearn.metrics import accuracy_score, confusion_matrix

from braincl_med.evaluation.fairness import fairness, spread_by_chance

TASKS = [range(0, 2), range(2, 4), range(4, 6)]


@pytest.mark.parametrize("seed", range(8))
def test_groups_agree_with_fairlearn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = np.concatenate([np.tile(np.arange(6), 3), rng.integers(0, 6, 300)])
    hospital = np.concatenate([np.repeat([0, 1, 2], 6), rng.integers(0, 3, 300)])
    right = rng.random(len(true)) < 0.4 + 0.1 * true
    predicted = np.where(right, true, (true + 1 + rng.integers(0, 5, len(true))) % 6)
    counts = np.stack(
        [confusion_matrix(true[hospital == h], predicted[hospital == h], labels=range(6)) for h in range(3)]
    )

    found = fairness(counts, TASKS)

    by_class = MetricFrame(metrics=accuracy_score, y_true=true, y_pred=predicted, sensitive_features=true)
    by_hospital = MetricFrame(metrics=accuracy_score, y_true=true, y_pred=predicted, sensitive_features=hospital)
    within = MetricFrame(
        metrics=accuracy_score,
        y_true=true,
        y_pred=predicted,
        sensitive_features=pd.Series(true, name="class"),
        control_features=pd.Series(true // 2, name="task"),
    )
    means = by_class.by_group.groupby(by_class.by_group.index // 2).mean()
    assert found.worst_accuracy == pytest.approx(by_class.group_min())
    assert by_class.by_group[found.worst_class] == pytest.approx(by_class.group_min())
    assert found.class_spread == pytest.approx(by_class.difference())
    assert found.hospital_spread == pytest.approx(by_hospital.difference())
    assert found.within_tasks == pytest.approx(np.max(within.difference()))
    assert found.between_tasks == pytest.approx(means.max() - means.min())


def test_classes_and_hospitals_without_scans_are_left_out() -> None:
    counts = np.zeros((3, 4, 4), int)
    counts[0, 0, 0], counts[0, 1, 0], counts[2, 1, 1] = 8, 2, 6
    found = fairness(counts, [range(0, 2), range(2, 4)])
    assert (found.worst_class, found.worst_accuracy) == (1, 0.75)
    assert found.class_spread == pytest.approx(0.25)
    assert found.between_tasks == 0.0
    assert found.hospital_spread == pytest.approx(0.2)


def test_equal_treatment_has_no_spread() -> None:
    counts = np.stack([np.diag([5] * 4), np.diag([9] * 4)])
    found = fairness(counts, [range(0, 2), range(2, 4)])
    assert (found.class_spread, found.within_tasks, found.between_tasks, found.hospital_spread) == (0, 0, 0, 0)


def counted(right: list[list[int]], scans: list[list[int]]) -> np.ndarray:
    """(H, C, C) counts with `right` of `scans` recognised, the others taken for the next class; both (H, C)."""
    counts = np.zeros((len(scans), len(scans[0]), len(scans[0])), np.int64)
    for hospital, (hits, given) in enumerate(zip(right, scans, strict=True)):
        for number, (hit, all_of) in enumerate(zip(hits, given, strict=True)):
            counts[hospital, number, number] = hit
            counts[hospital, number, number - 1] = all_of - hit
    return counts


def test_chance_between_two_hospitals_is_that_of_the_hypergeometric_distribution() -> None:
    right = hypergeom(40, 24, 20)
    numbers = np.arange(41)
    spreads, weights = np.abs(2 * numbers - 24) / 20, right.pmf(numbers)
    order = np.argsort(spreads)
    exact = spreads[order][np.searchsorted(np.cumsum(weights[order]), 0.95)]
    assert spread_by_chance(counted([[12, 0], [12, 0]], [[20, 0], [20, 0]])) == pytest.approx(exact)


def test_another_mix_of_classes_is_not_another_treatment() -> None:
    found = fairness(counted([[18, 1], [2, 9]], [[18, 10], [2, 90]]), [range(0, 2)])
    assert found.hospital_spread == pytest.approx(19 / 28 - 11 / 92)
    assert found.hospital_spread <= found.hospital_chance


def test_a_hospital_served_worse_stands_out_from_chance() -> None:
    worse = fairness(counted([[28, 29], [27, 29], [15, 16]], [[30, 30]] * 3), [range(0, 2)])
    assert worse.hospital_spread > worse.hospital_chance


def test_no_test_scans_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="a class of 1 test scans at least"):
        fairness(np.zeros((2, 4, 4), int), TASKS[:2])
