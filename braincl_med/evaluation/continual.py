"""Accuracy as diseases are added, from counts of test scans by true and predicted class."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from braincl_med.evaluation.tally import Counts, Tally

Figures = npt.NDArray[np.float64]


def shares_of(correct: Counts, scans: Counts) -> Figures:
    """How many of so many, value by value; NaN of none."""
    shares: Figures = np.divide(correct, scans, out=np.full(scans.shape, np.nan), where=scans > 0)
    return shares


def class_accuracies(tally: Tally, smallest: int = 1) -> Figures:
    """(T, C) shares of each class's test scans that were recognised after each task.

    Args:
        tally: what was counted.
        smallest: of fewer scans than these nothing is told: NaN, as for a class without test scans.
    """
    correct, scans = tally.together
    return shares_of(correct, np.where(scans >= smallest, scans, 0))


def accuracy_matrix(tally: Tally, tasks: Sequence[range], smallest: int = 1) -> Figures:
    """R[i, j]: accuracy on the test scans of task j after learning task i; NaN above the diagonal.

    Args:
        tally: what was counted after each of T tasks.
        tasks: the class numbers of each task, at least T of them.
        smallest: as in `class_accuracies`, of a task's scans.
    """
    size = tally.tasks
    correct, scans = [
        np.stack([counts[:, list(numbers)].sum(1) for numbers in tasks[:size]], 1) if size else counts
        for counts in tally.together
    ]
    matrix = shares_of(correct, np.where(scans >= smallest, scans, 0)) if size else np.zeros((0, 0))
    matrix[np.triu_indices(size, 1)] = np.nan
    return matrix


def accuracies_after(tally: Tally) -> Figures:
    """(T,) accuracy on all test scans of all classes seen so far, after each task."""
    correct, scans = tally.together
    return shares_of(correct.sum(1), scans.sum(1))


def average_accuracy(tally: Tally) -> float:
    """The mean over tasks of the accuracy after each (the paper's "average")."""
    return float(np.mean(accuracies_after(tally)))


def last_accuracy(tally: Tally) -> float:
    """The accuracy on all classes after the last task (the paper's "last")."""
    return float(accuracies_after(tally)[-1])


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
