"""Further scores of how familiar a scan is, from features of known samples; larger is more familiar.

    relative Mahalanobis   −min_c (d_c² − d_0²)   Ren et al. 2021, after Lee et al. 2018: distance from a class less
                                                  that from all classes together
    neighbours             −‖z − z_(k)‖           Sun et al. 2022: distance of the unit feature from its k-th nearest
    ViM                    logsumexp − α‖x^⊥‖     Wang et al. 2022: the part of a feature outside the principal
                                                  subspace as one more logit
    combined               min of two ranks       of maximum softmax and of familiarity among reference scans

Maximum softmax finds mistakes and is blind to strangers far away; familiarity finds those and not mistakes. Of both
ranks the smaller counts: a scan must be among those that the classifier is sure of and lie where known ones lie.
"""

import numpy as np
import numpy.typing as npt

from braincl_med.evaluation.continual import Figures

SHRINKAGE = 0.1
"""Of the mean variance, added to every variance, so that few samples of many features have an inverse."""
NEIGHBOURS = 10
"""Counted to; the paper's 50 are more than a hospital has of a rare class."""

Points = npt.NDArray[np.floating]


def relative_mahalanobis(
    features: Points, known: Points, labels: npt.NDArray[np.int64], shrinkage: float = SHRINKAGE
) -> Figures:
    """(n,) scores of features (n, d), from known samples' features (m, d) and labels (m,), m ≥ 1."""
    points, samples = features.astype(np.float64), known.astype(np.float64)
    present, place = np.unique(labels, return_inverse=True)
    means = np.stack([samples[place == number].mean(0) for number in range(len(present))])
    everywhere = samples.mean(0)
    within = _whitening(samples - means[place], shrinkage)
    overall = _whitening(samples - everywhere, shrinkage)
    nearest = np.min([_squares(points - mean, within) for mean in means], axis=0, initial=np.inf)
    scores: Figures = _squares(points - everywhere, overall) - nearest
    return scores


def neighbours(features: Points, known: Points, count: int = NEIGHBOURS) -> Figures:
    """(n,) scores of features (n, d), from known samples' features (m, d); of m below `count` the farthest counts."""
    points, samples = _unit(features), _unit(known)
    squares = 2 - 2 * np.clip(points @ samples.T, -1, 1)
    place = min(count, len(samples)) - 1
    scores: Figures = -np.sqrt(np.partition(squares, place, axis=1)[:, place])
    return scores


def virtual_logit(features: Points, known: Points, weight: Points, bias: Points, kept: int | None = None) -> Figures:
    """(n,) scores of features (n, d), from known samples' features (m, d) and the classifier.

    Args:
        features, known: as said.
        weight, bias: (classes, d) and (classes,).
        kept: dimensions of the principal subspace, below d; None for half of d, or of the samples where these are
            fewer: they span no more, and what lies beyond would be nothing but rounding.
    """
    rows, points, samples = (array.astype(np.float64) for array in (weight, features, known))
    origin = -np.linalg.pinv(rows) @ bias.astype(np.float64)
    centred = samples - origin
    directions = np.linalg.eigh(centred.T @ centred / len(samples))[1]
    rest = directions[:, : len(origin) - (min(len(origin), len(samples)) // 2 if kept is None else kept)]
    beyond = np.linalg.norm(centred @ rest, axis=1).mean()
    alpha = (samples @ rows.T + bias).max(1).mean() / beyond if beyond else 0.0
    logits = points @ rows.T + bias
    top = logits.max(1, keepdims=True, initial=-np.inf)
    energy = top[:, 0] + np.log(np.exp(logits - top).sum(1))
    scores: Figures = energy - alpha * np.linalg.norm((points - origin) @ rest, axis=1)
    return scores


def ranks(scores: Figures, reference: Figures) -> Figures:
    """(n,) the share of reference scans whose score is no larger; `reference` holds at least one."""
    below: Figures = np.searchsorted(np.sort(reference), scores, side="right") / len(reference)
    return below


def combined(sure: Figures, familiar: Figures, sure_reference: Figures, familiar_reference: Figures) -> Figures:
    """(n,) the smaller of both ranks among reference scans: validation scans or recalls, never those that are judged.

    Args:
        sure, familiar: (n,) maximum softmax and familiarity of scans.
        sure_reference, familiar_reference: (m,) of reference scans, m ≥ 1.
    """
    return np.minimum(ranks(sure, sure_reference), ranks(familiar, familiar_reference))


def threshold(reference: Figures, share: float) -> float:
    """The largest score such that at most `share` of the reference scans lie below it."""
    return float(np.sort(reference)[min(len(reference) - 1, int(share * len(reference)))])


def _whitening(centred: Figures, shrinkage: float) -> Figures:
    """W with WWᵀ the inverse of the shrunk covariance of centred samples (m, d)."""
    covariance = centred.T @ centred / len(centred)
    added = max(shrinkage * float(np.diagonal(covariance).mean()), 1e-12)
    values, directions = np.linalg.eigh(covariance + added * np.eye(len(covariance)))
    whitening: Figures = directions / np.sqrt(np.maximum(values, 1e-12))
    return whitening


def _squares(points: Figures, whitening: Figures) -> Figures:
    squares: Figures = np.square(points @ whitening).sum(1)
    return squares


def _unit(points: Points) -> Figures:
    values = points.astype(np.float64)
    unit: Figures = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return unit
