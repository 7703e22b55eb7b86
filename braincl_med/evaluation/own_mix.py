"""What hospitals would see if their patients were like their own training scans, from test scans dealt evenly."""

import numpy as np

from braincl_med.evaluation.continual import Figures, shares_of
from braincl_med.evaluation.tally import Counts


def own_mix(confusion: Counts, trained: Counts) -> Figures:
    """(H,) each hospital's mean of the classes' accuracies, weighted by how its own training scans lie in them.

    All hospitals have one network, so a class's accuracy is that of all its test scans: a hospital's own test scans
    of it would be few, and tell nothing more.

    Args:
        confusion: (C, C) counts of all hospitals' test scans, rows true, columns predicted.
        trained: (H, C) training scans of each hospital; those of a class without test scans count for nothing.

    Returns:
        NaN for a hospital without training scans of tested classes.
    """
    scans = confusion.sum(1)
    accuracies = shares_of(np.diagonal(confusion), scans)
    counted = np.where(scans > 0, trained, 0)
    total = counted.sum(1)
    weighted = (counted * np.nan_to_num(accuracies)).sum(1)
    mixes: Figures = np.divide(weighted, total, out=np.full(len(total), np.nan), where=total > 0)
    return mixes
