"""How evenly a network serves classes, tasks and hospitals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from braincl_med.evaluation.continual import Counts, class_accuracies


@dataclass(frozen=True)
class Fairness:
    """Spread of accuracies after one task; every figure is a share in [0, 1] or a difference of shares.

    Attributes:
        worst_class: the number of the class recognised least.
        worst_accuracy: its accuracy.
        class_spread: best minus worst class.
        within_tasks: the largest best-minus-worst difference between classes of one task (the paper's
            "disparate impact", Fig. 5c).
        between_tasks: best minus worst task, each the mean of its classes' accuracies.
        hospital_spread: best minus worst hospital, each over its own test scans.
    """

    worst_class: int
    worst_accuracy: float
    class_spread: float
    within_tasks: float
    between_tasks: float
    hospital_spread: float


def fairness(confusions: Counts, tasks: Sequence[range]) -> Fairness:
    """Fairness figures from one evaluation.

    Args:
        confusions: (H, C, C) counts of each hospital.
        tasks: the class numbers of each task learned so far.

    Raises:
        ValueError: there are no test scans at all.
    """
    if not confusions.sum():
        raise ValueError("fairness needs at least one test scan, the counts hold none")
    by_class = class_accuracies(confusions.sum(0))
    task_values = [by_class[list(t)] for t in tasks if not np.all(np.isnan(by_class[list(t)]))]
    means = [float(np.nanmean(values)) for values in task_values]
    scans = confusions.sum((1, 2))
    correct = np.trace(confusions, axis1=1, axis2=2)
    by_hospital = correct[scans > 0] / scans[scans > 0]
    return Fairness(
        worst_class=int(np.nanargmin(by_class)),
        worst_accuracy=float(np.nanmin(by_class)),
        class_spread=float(np.nanmax(by_class) - np.nanmin(by_class)),
        within_tasks=max(float(np.nanmax(v) - np.nanmin(v)) for v in task_values),
        between_tasks=max(means) - min(means),
        hospital_spread=float(by_hospital.max() - by_hospital.min()),
    )
