import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score
from torchmetrics.classification import MulticlassAccuracy

from braincl_med.evaluation.continual import (
    accuracies_after,
    accuracy_matrix,
    average_accuracy,
    class_accuracies,
    forgetting,
    last_accuracy,
)
from braincl_med.evaluation.tally import Tally

TASKS = [range(0, 2), range(2, 4), range(4, 6)]


def tally(counts: np.ndarray) -> Tally:
    """Of (T, C, C) counts of one hospital."""
    return Tally.of(("site-0",), counts[:, None])


def predictions(seed: int, classes: int, scans: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = np.concatenate([np.arange(classes), rng.integers(0, classes, scans)])
    return true, np.where(rng.random(len(true)) < 0.6, true, rng.integers(0, classes, len(true)))


@given(st.integers(0, 10_000), st.integers(2, 9))
def test_class_accuracies_agree_with_torchmetrics_and_scikit_learn(seed: int, classes: int) -> None:
    true, predicted = predictions(seed, classes)
    counts = confusion_matrix(true, predicted, labels=range(classes))
    ours = class_accuracies(tally(counts[None]))[0]
    theirs = MulticlassAccuracy(num_classes=classes, average="none")(torch.tensor(predicted), torch.tensor(true))
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)
    np.testing.assert_allclose(ours, recall_score(true, predicted, average=None, labels=range(classes)))


def test_accuracy_after_each_task_agrees_with_torchmetrics() -> None:
    counts, theirs = np.zeros((3, 6, 6), int), []
    for task in range(3):
        true, predicted = predictions(task, 2 * task + 2)
        counts[task] = confusion_matrix(true, predicted, labels=range(6))
        metric = MulticlassAccuracy(num_classes=6, average="micro")
        theirs.append(float(metric(torch.tensor(predicted), torch.tensor(true))))
        assert accuracies_after(tally(counts))[task] == pytest.approx(accuracy_score(true, predicted))
    np.testing.assert_allclose(accuracies_after(tally(counts)), theirs, atol=1e-6)
    assert average_accuracy(tally(counts)) == pytest.approx(np.mean(theirs))
    assert last_accuracy(tally(counts)) == pytest.approx(theirs[-1])


def test_matrix_counts_only_the_tasks_own_scans() -> None:
    counts = np.zeros((3, 6, 6), int)
    for task in range(3):
        true, predicted = predictions(10 + task, 2 * task + 2)
        counts[task] = confusion_matrix(true, predicted, labels=range(6))
        matrix = accuracy_matrix(tally(counts[: task + 1]), TASKS)
        for earlier in range(task + 1):
            own = np.isin(true, list(TASKS[earlier]))
            # Nobody tells the network which task a scan is from: an answer out of another task is wrong.
            assert matrix[task, earlier] == pytest.approx(accuracy_score(true[own], predicted[own]))
    assert np.isnan(matrix[np.triu_indices(3, 1)]).all()


def test_a_class_without_test_scans_has_no_accuracy() -> None:
    counts = np.array([[3, 1], [0, 0]])
    assert class_accuracies(tally(counts[None]))[0, 0] == 0.75
    assert np.isnan(class_accuracies(tally(counts[None]))[0, 1])
    assert last_accuracy(tally(counts[None])) == 0.75
    assert np.isnan(accuracies_after(tally(np.zeros((1, 2, 2), int)))).all()


def test_a_class_with_fewer_scans_than_may_be_told_of_has_none_either() -> None:
    counts = tally(np.array([[[3, 1], [1, 4]]]))
    np.testing.assert_array_equal(class_accuracies(counts, 5), [[np.nan, 0.8]])


def test_forgetting_by_hand() -> None:
    matrix = np.array(
        [
            [0.9, np.nan, np.nan],
            [0.7, 0.8, np.nan],
            [0.5, 0.85, 0.6],
        ]
    )
    # Best before the end: 0.9 and 0.8; at the end 0.5 and 0.85.
    assert forgetting(matrix) == pytest.approx((0.4 - 0.05) / 2)


@pytest.mark.filterwarnings("error")
def test_forgetting_where_there_is_nothing_to_forget() -> None:
    assert forgetting(np.array([[0.9]])) == 0.0
    assert forgetting(np.zeros((0, 0))) == 0.0
    without_scans = np.array([[np.nan, np.nan], [np.nan, 0.8]])
    assert np.isnan(forgetting(without_scans))
    one_measured = np.array([[np.nan, np.nan, np.nan], [np.nan, 0.8, np.nan], [np.nan, 0.6, 0.7]])
    assert forgetting(one_measured) == pytest.approx(0.2)


def test_a_network_that_remembers_only_its_last_task_scores_as_finetune_does() -> None:
    """Ten tasks of four classes, each learned perfectly, then forgotten: the paper has Finetune at 28.0 and 9.0 %."""
    tasks = [range(4 * t, 4 * t + 4) for t in range(10)]
    counts = np.zeros((10, 40, 40), int)
    for task in range(10):
        for number in range(4 * task + 4):
            counts[task, number, number if number in tasks[task] else 4 * task] = 50
    assert last_accuracy(tally(counts)) == pytest.approx(0.1)
    assert average_accuracy(tally(counts)) == pytest.approx(np.mean([1 / t for t in range(1, 11)]))  # 29.3 %
    assert forgetting(accuracy_matrix(tally(counts), tasks)) == pytest.approx(1.0)
