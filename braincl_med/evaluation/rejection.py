"""Rejection of unknown scans: confidence scores, their histograms, and figures from histograms.

A hospital keeps no score of a single scan: it sends counts over fixed bins, and histograms of all hospitals add up.
Scores are larger for more familiar scans: the maximum softmax probability (Hendrycks & Gimpel 2017) and the
negative energy, log-sum-exp of the logits (Liu et al. 2020). A method that draws its weights adds its certainty,
minus the mutual information of answer and weights (Houlsby et al. 2011), which is at most log(classes). One that
recalls samples adds its `familiarity`, minus the Mahalanobis distance from them (`cortex.familiarity`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from braincl_med.evaluation.continual import Figures
from braincl_med.evaluation.tally import Counts

EDGES: dict[str, Figures] = {
    # A trained network is sure of most scans: bins of one width would throw those above 0.99 together as ties.
    "max-softmax": np.concatenate([np.linspace(0, 0.9, 91), 1 - np.logspace(-1, -8, 113)[1:], [1]]),
    "energy": np.linspace(-10, 40, 501),
    # Draws of a certain network hardly disagree: bins are a tenth wider than the next, down to 1e-8 nats.
    "certainty": np.concatenate([-np.logspace(np.log10(5), -8, 201), [0]]),
    # Far scans lie hundreds of deviations away: bins are a fortieth wider than the next.
    "familiarity": np.concatenate([-np.logspace(4, -1, 501), [0]]),
}
"""Bin edges of each kind of score; values outside fall into the first or last bin."""

KNOWN = ("known-correct", "known-wrong")
UNKNOWN = ("unknown-near", "unknown-far")


def scores_of(logits: npt.NDArray[np.floating]) -> dict[str, Figures]:
    """Both scores of each scan that follow from its logits.

    Args:
        logits: (n, classes).
    """
    values = logits.astype(np.float64)
    top = values.max(axis=1, initial=-np.inf, keepdims=True) if len(values) else np.zeros((0, 1))
    total = np.exp(values - top).sum(1)
    return {"max-softmax": 1 / total, "energy": top[:, 0] + np.log(total)}


def histogram(kind: str, values: Figures) -> Counts:
    """Counts of `values` over the bins of score `kind`."""
    edges = EDGES[kind]
    return np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)[0].astype(np.int64)


def auroc(known: Counts, unknown: Counts) -> float:
    """The probability that a known scan scores above an unknown one, ties counted half; NaN if either is empty."""
    if not known.sum() or not unknown.sum():
        return float("nan")
    below = np.concatenate([[0], np.cumsum(unknown)[:-1]])
    return float((known * (below + unknown / 2)).sum() / (known.sum() * unknown.sum()))


@dataclass(frozen=True)
class Answering:
    """What happens when only scans whose score reaches a threshold are answered; NaN where there are no scans.

    Attributes:
        answered: the share of known scans that are answered.
        accuracy: the share of right answers among the known scans that are answered.
        near_rejected, far_rejected: the shares of near and far unknown scans that are not answered, as they should.
    """

    answered: float
    accuracy: float
    near_rejected: float
    far_rejected: float


def answering(groups: Mapping[str, Counts], threshold_bin: int) -> Answering:
    """Answer the scans in bins from `threshold_bin` on, and no others.

    Args:
        groups: histogram counts of one score by kind of scans; a kind that is missing has no scans.
        threshold_bin: the first bin that is answered; the number of bins answers none.
    """
    kept = {name: int(counts[threshold_bin:].sum()) for name, counts in groups.items()}
    scans = {name: int(counts.sum()) for name, counts in groups.items()}

    def share(part: Mapping[str, int], of: Mapping[str, int], *names: str) -> float:
        whole = sum(of.get(name, 0) for name in names)
        return sum(part.get(name, 0) for name in names) / whole if whole else float("nan")

    right, answers = kept.get(KNOWN[0], 0), sum(kept.get(name, 0) for name in KNOWN)
    return Answering(
        answered=share(kept, scans, *KNOWN),
        accuracy=right / answers if answers else float("nan"),
        near_rejected=1 - share(kept, scans, UNKNOWN[0]),
        far_rejected=1 - share(kept, scans, UNKNOWN[1]),
    )


def threshold_at(known: Counts, share: float = 0.95) -> int:
    """The highest bin from which on at least `share` of the known scans lie.

    Raises:
        ValueError: there are no known scans.
    """
    if not known.sum():
        raise ValueError("a threshold needs at least one known scan, the counts hold none")
    accepted = np.cumsum(known[::-1])[::-1] / known.sum()
    return int(np.flatnonzero(accepted >= share).max())


def fpr_at_95(known: Counts, unknown: Counts) -> float:
    """The share of unknown scans still accepted when at least 95 % of known ones are; NaN if either is empty."""
    if not known.sum() or not unknown.sum():
        return float("nan")
    return float(unknown[threshold_at(known) :].sum() / unknown.sum())
