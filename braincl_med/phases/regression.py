"""The classifier solved by ridge regression of the classes on the features, from moments that add up.

    M, p_c, p_c μ_c  ─►  m = Σ_c p_c μ_c,   C = M − m mᵀ,   w_c = p_c (C + a I)⁻¹ (μ_c − m),   b_c = p_c − w_cᵀ m

This is least squares on one-hot classes with an intercept and a penalty of a ‖w‖² a sample. Moments of all samples
are sums over hospitals and tasks, so it is the classifier of one hospital that has them all, however they are shared
and in whichever order they come (AFL, He et al. 2025, arXiv 2405.16240).
"""

import torch

from braincl_med.cortex.cortex import Weights
from braincl_med.cortex.gaussians import LEAST_SHARE, LEAST_VARIANCE, SECOND, SHARES, SUMS

LEAST_EXPLAINED = 1e-8
"""Of a one-hot class, by all features together; what rounding leaves of equal means is a hundredth of it."""


def regression(told: Weights, classifier: Weights, ridge: float) -> Weights:
    """The classifier that the moments of all samples determine.

    It is scaled until its rows have length 1 (root mean square over classes with samples), as those of trained
    networks have about, which changes no answer. A class without a sample has a row of zeros.

    Args:
        told: moments of at least one sample, in double precision.
        classifier: tensors that hold `classifier.weight` (classes, d) and `classifier.bias` (classes,), for their
            types.
        ridge: this share of the mean variance is added to the variance of every feature.

    Returns:
        `classifier.weight` and `classifier.bias`.
    """
    shares, sums = told[SHARES], told[SUMS]
    mean = sums.sum(0)
    covariance = told[SECOND] - torch.outer(mean, mean)
    least = LEAST_VARIANCE + LEAST_SHARE * float(told[SECOND].diagonal().mean())
    variance = covariance.diagonal().mean().clamp_min(least)
    covariance.diagonal().add_(ridge * variance)
    rows = torch.linalg.solve(covariance, (sums - torch.outer(shares, mean)).T).T
    length = rows.norm() / (shares > 0).sum().double().sqrt()
    # What is left of rows that differ by rounding alone is not blown up to that length.
    scale = 1 / length if length * (len(mean) * variance).sqrt() > LEAST_EXPLAINED else torch.ones_like(length)
    return {
        "classifier.weight": (scale * rows).to(classifier["classifier.weight"].dtype),
        "classifier.bias": (scale * (shares - rows @ mean)).to(classifier["classifier.bias"].dtype),
    }
