"""How evenly a network serves classes, tasks and hospitals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from braincl_med.evaluation.continual import shares_of
from braincl_med.evaluation.tally import Counts

DEALS = range(200, 2000)
"""How often right answers are dealt anew to see what chance does, at least and at most."""
MOST_DRAWS = 2_000_000
"""Of numbers for all deals together: with many classes and hospitals there are fewer deals."""


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
        hospital_spread: best minus worst hospital, each over its own test scans; NaN where none is told of.
        hospital_chance: what `hospital_spread` stays below in 95 of 100 cases where the network serves all hospitals
            alike (`spread_by_chance`).
    """

    worst_class: int
    worst_accuracy: float
    class_spread: float
    within_tasks: float
    between_tasks: float
    hospital_spread: float
    hospital_chance: float


def fairness(confusions: Counts, tasks: Sequence[range], smallest: int = 1) -> Fairness:
    """Fairness figures from one evaluation.

    Args:
        confusions: (H, C, C) counts of each hospital.
        tasks: the class numbers of each task learned so far.
        smallest: a class, over all hospitals, and a hospital, over all classes, of fewer scans count in no figure:
            the worst of them would be told of these scans.

    Raises:
        ValueError: no class has as many test scans.
    """
    together = confusions.sum(0)
    scans = together.sum(1)
    if not (scans >= max(1, smallest)).any():
        raise ValueError(f"fairness needs a class of {smallest} test scans at least, the counts hold none")
    by_class = shares_of(np.diagonal(together), np.where(scans >= smallest, scans, 0))
    task_values = [by_class[list(t)] for t in tasks if not np.all(np.isnan(by_class[list(t)]))]
    means = [float(np.nanmean(values)) for values in task_values]
    told = confusions[confusions.sum((1, 2)) >= max(1, smallest)]
    by_hospital = _by_hospital(np.trace(told, axis1=1, axis2=2), told.sum((1, 2)))
    return Fairness(
        worst_class=int(np.nanargmin(by_class)),
        worst_accuracy=float(np.nanmin(by_class)),
        class_spread=float(np.nanmax(by_class) - np.nanmin(by_class)),
        within_tasks=max(float(np.nanmax(v) - np.nanmin(v)) for v in task_values),
        between_tasks=max(means) - min(means),
        hospital_spread=float(np.ptp(by_hospital)) if len(told) else float("nan"),
        hospital_chance=spread_by_chance(told) if len(told) else float("nan"),
    )


def spread_by_chance(confusions: Counts, share: float = 0.95) -> float:
    """The quantile of `hospital_spread` under chance alone, with each hospital's own mix of classes.

    A permutation test by class: the right answers of every class are dealt anew among the hospitals that have test
    scans of it, as if it did not matter whose scan it is. The same counts give the same figure.

    Args:
        confusions: (H, C, C) counts of each hospital.
        share: of deals that stay at or below the returned spread.
    """
    generator = np.random.default_rng(0)
    scans = confusions.sum(2)
    right = np.diagonal(confusions, axis1=1, axis2=2).sum(0)
    deals = max(DEALS.start, min(DEALS.stop, MOST_DRAWS // scans.size))
    dealt = sum(
        generator.multivariate_hypergeometric(scans[:, number], int(right[number]), deals, method="marginals")
        for number in range(len(right))
    )
    by_hospital = _by_hospital(np.asarray(dealt), scans.sum(1))
    return float(np.quantile(np.ptp(by_hospital, axis=-1), share))


def _by_hospital(right: npt.NDArray[np.int64], scans: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(..., H') shares of right answers of the hospitals that have test scans; `right` is (..., H), `scans` (H,)."""
    shares: npt.NDArray[np.float64] = right[..., scans > 0] / scans[scans > 0]
    return shares
