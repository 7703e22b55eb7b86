"""What one hospital's update of a linear classifier tells of a single scan: exactly its features, and its class.

With cross-entropy and one scan of class y and features f the gradient of the weights is (p − e_y) fᵀ and that of the
biases p − e_y. So any row of the first divided by the second is f, and the one negative bias gradient is y's. The
same holds of the whole change after several steps without weight decay, for all of them have the same f.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from braincl_med.foundation.arrays import Labels

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Read:
    """What was read off an update.

    Attributes:
        features: (d,) those of the scan, if it was one.
        label: its class.
    """

    features: Values
    label: int


@dataclass(frozen=True)
class Reading:
    """How well features were read off updates of a batch size.

    Attributes:
        error: of each update, the distance of what was read to the nearest scan's features over their norm.
        labels: of how many updates the class was that of a scan in the batch.
    """

    batch: int
    error: Values
    labels: int

    def as_json(self) -> dict[str, Any]:
        """The figures, as they stand in an audit's report."""
        return {
            "batch": self.batch,
            "updates": len(self.error),
            "median-error": float(np.median(self.error)),
            "exact": float((self.error < EXACT).mean()),
            "labels": self.labels / len(self.error),
        }


EXACT = 1e-3
"""Relative distance below which features count as read."""


def read(weights: Values, biases: Values) -> Read | None:
    """Read the features of one scan off the gradient, or the negative change, of a classifier.

    Args:
        weights: (classes, d).
        biases: (classes,).

    Returns:
        None where the biases did not change, and nothing can be read.
    """
    row = int(np.abs(biases).argmax())
    if not np.isfinite(biases[row]) or biases[row] == 0:
        return None
    return Read(weights[row] / biases[row], int(biases.argmin()))


def judged(batch: int, updates: list[tuple[Values, Values]], features: list[Values], labels: list[Labels]) -> Reading:
    """Compare what is read off updates with what was in their batches.

    Args:
        updates: gradients (classes, d) and (classes,), one a batch.
        features: (batch, d) of the scans in each.
        labels: (batch,) their rows.
    """
    errors, right = [], 0
    for (weights, biases), mine, truth in zip(updates, features, labels, strict=True):
        found = read(weights, biases)
        if found is None:
            errors.append(np.inf)
            continue
        distances = np.linalg.norm(mine - found.features, axis=1) / np.maximum(np.linalg.norm(mine, axis=1), 1e-12)
        errors.append(float(distances.min()))
        right += int(found.label in truth)
    return Reading(batch, np.array(errors), right)
