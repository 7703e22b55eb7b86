"""Rejection of unknown scans: confidence scores, their histograms, and figures from histograms.

A hospital keeps no score of a single scan: it sends counts over fixed bins, and histograms of all hospitals add up.
Scores are larger for more familiar scans: the maximum softmax probability (Hendrycks & Gimpel 2017) and the
negative energy, log-sum-exp of the logits (Liu et al. 2020).
"""

import numpy as np
import numpy.typing as npt

from braincl_med.evaluation.continual import Counts, Figures

EDGES: dict[str, Figures] = {
    "max-softmax": np.linspace(0, 1, 201),
    "energy": np.linspace(-10, 40, 501),
}
"""Bin edges of each kind of score; values outside fall into the first or last bin."""

KNOWN = ("known-correct", "known-wrong")
UNKNOWN = ("unknown-near", "unknown-far")


def scores_of(logits: npt.NDArray[np.floating]) -> dict[str, Figures]:
    """Both scores of each scan.

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


def rejection_at(known: Counts, unknown: Counts, threshold_bin: int) -> tuple[float, float]:
    """The shares of known and of unknown scans whose score lies below bin `threshold_bin`."""
    return (
        float(known[:threshold_bin].sum() / max(1, known.sum())),
        float(unknown[:threshold_bin].sum() / max(1, unknown.sum())),
    )


def fpr_at_95(known: Counts, unknown: Counts) -> float:
    """The share of unknown scans still accepted when at least 95 % of known ones are; NaN if either is empty."""
    if not known.sum() or not unknown.sum():
        return float("nan")
    accepted_known = np.cumsum(known[::-1])[::-1] / known.sum()
    lowest = int(np.flatnonzero(accepted_known >= 0.95).max())
    return float(unknown[lowest:].sum() / unknown.sum())
