"""Gaussians of the classes in feature space, one covariance for all, from moments that add up over hospitals."""

import torch
from torch import Tensor
from torch.nn import functional

from braincl_med.cortex.cortex import Tensors, Weights

MOMENTS = "moments."
SHARES, SUMS, SECOND = MOMENTS + "shares", MOMENTS + "sums", MOMENTS + "second"
SHRINKAGE = 0.1
LEAST_VARIANCE = 1e-12
LEAST_SHARE = 1e-9
ROUNDING = 1e-6
LARGEST = 1e12
"""No feature of a network that has learned anything is as large, nor its square."""


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


def impossible_moments(told: Tensors) -> str | None:
    """Why moments cannot be those of any samples, or None.

    Shares are a distribution, and within classes features have a covariance: a matrix that is symmetric and nowhere
    below zero, but for rounding.
    """
    shares, sums, second = told[SHARES], told[SUMS], told[SECOND]
    if bool((shares < 0).any()) or abs(float(shares.sum()) - 1) > ROUNDING:
        return "the shares of classes are no shares"
    size = second.diagonal().sum()
    if max(float(t.abs().max()) for t in (sums, second)) > LARGEST or bool(sums[shares == 0].any()):
        return "the sums of features belong to no samples"
    present = shares > 0
    means = sums[present] / shares[present, None]
    within = second - means.T @ sums[present]
    lopsided = (second - second.T).abs().max() > ROUNDING * size.abs()
    if bool(lopsided) or float(torch.linalg.eigvalsh(within).min()) < -ROUNDING * float(size.abs()):
        return "the second moments of features are those of no samples"
    return None


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
