"""Accuracy as diseases are added, from counts of test scans by true and predicted class."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Figures = npt.NDArray[np.float64]


def class_accuracies(confusion: Counts) -> Figures:
    """The share of each class's scans that were recognised.

    Args:
        confusion: (..., C, C) counts, rows true, columns predicted.

    Returns:
        (..., C); NaN for a class without test scans.
    """
    scans = confusion.sum(-1)
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    accuracies: Figures = np.divide(correct, scans, out=np.full(scans.shape, np.nan), where=scans > 0)
    return accuracies


def accuracy_matrix(confusions: Counts, tasks: Sequence[range]) -> Figures:
    """R[i, j]: accuracy on the test scans of task j after learning task i; NaN above the diagonal.

    Args:
        confusions: (T, C, C) counts after each task.
        tasks: the class numbers of each task, at least T of them.
    """
    matrix = np.full((len(confusions), len(confusions)), np.nan)
    for i, confusion in enumerate(confusions):
        for j in range(i + 1):
            rows = confusion[list(tasks[j])]
            correct = sum(int(confusion[c, c]) for c in tasks[j])
            if rows.sum():
                matrix[i, j] = correct / rows.sum()
    return matrix


def accuracies_after(confusions: Counts) -> Figures:
    """(T,) accuracy on all test scans of all classes seen so far, after each task."""
    return np.array([np.trace(c) / c.sum() if c.sum() else np.nan for c in confusions], np.float64)


def average_accuracy(confusions: Counts) -> float:
    """The mean over tasks of the accuracy after each (the paper's "average")."""
    return float(np.mean(accuracies_after(confusions)))


def last_accuracy(confusions: Counts) -> float:
    """The accuracy on all classes after the last task (the paper's "last")."""
    return float(accuracies_after(confusions)[-1])


def forgetting(matrix: Figures) -> float:
    """The mean over old tasks of the best accuracy they ever had minus the one they have at the end.

    Chaudhry et al., "Riemannian walk for incremental learning" (2018), eq. 1; 0 for a single task. Tasks without
    test scans do not count; NaN when no old task has any.
    """
    if len(matrix) < 2:
        return 0.0
    best = np.where(np.isnan(matrix[:-1, :-1]), -np.inf, matrix[:-1, :-1]).max(axis=0)
    lost = best - matrix[-1, :-1]
    measured = lost[np.isfinite(lost)]
    return float(measured.mean()) if len(measured) else float("nan")
