"""Gaussians of the classes in feature space, one covariance for all, from moments that add up over hospitals."""

import torch
from torch import Tensor
from torch.nn import functional

from braincl_med.cortex.cortex import Weights

MOMENTS = "moments."
SHARES, SUMS, SECOND = MOMENTS + "shares", MOMENTS + "sums", MOMENTS + "second"
SHRINKAGE = 0.1
LEAST_VARIANCE = 1e-12
LEAST_SHARE = 1e-9


def moments(features: Tensor, labels: Tensor, classes: int) -> Weights:
    """Moments of some samples' features; weighted by samples, such moments average to those of all.

    Args:
        features: (n, d), n ≥ 1.
        labels: (n,) class numbers below `classes`.
        classes: rows of the classifier.

    Returns:
        The share of each class (classes,), the sum of its features (classes, d) and the second moment (d, d), the
        latter two over n; in double precision.
    """
    values = features.double()
    members = functional.one_hot(labels.long(), classes).double()
    count = len(values)
    return {SHARES: members.mean(0), SUMS: members.T @ values / count, SECOND: values.T @ values / count}


def no_moments(classifier: Weights) -> Weights:
    """Moments of nothing: their names, shapes and types for a classifier of `classifier.weight`'s shape."""
    classes, features = classifier["classifier.weight"].shape
    return moments(torch.zeros(1, features), torch.zeros(1), classes)


def gaussians(told: Weights, shrinkage: float = SHRINKAGE) -> tuple[Tensor, Tensor]:
    """The means (k, d) of the k classes that have samples, in order, and the covariance Σ (d, d) within classes.

        Σ = M − Σ_c p_c μ_c μ_cᵀ + shrinkage · mean variance · I

    with shares p, means μ and second moment M.

    Args:
        told: moments of at least one sample.
        shrinkage: so that few samples of many features have an inverse.
    """
    present = told[SHARES] > 0
    shares = told[SHARES][present, None]
    means = told[SUMS][present] / shares
    within = told[SECOND] - means.T @ (means * shares)
    # Samples that are all alike have no variance, and what is left of the subtraction is noise.
    least = LEAST_VARIANCE + LEAST_SHARE * float(told[SECOND].diagonal().mean())
    added = (shrinkage * within.diagonal().mean()).clamp_min(least)
    return means, within + added * torch.eye(len(within), dtype=within.dtype)
