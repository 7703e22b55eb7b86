"""The classifier solved in closed form from sums over hospitals: linear discriminant analysis of the features.

    hospitals: n_c / n,  Σ_c f / n,  Σ f fᵀ / n  ──average──►  p_c,  p_c μ_c,  M
    server:    Σ = M − Σ_c p_c μ_c μ_cᵀ,   w_c = Σ⁻¹ (μ_c − m),   b_c = −½ (μ_c − m)ᵀ Σ⁻¹ (μ_c + m),   m = mean of μ_c

These are the log odds of Gaussians with one covariance and classes of equal weight (Fisher 1936; McLachlan 1992), so
skewed shares of classes leave no trace in the classifier, which is where averaging suffers most from them (Luo et al.
2021, who train it anew on features drawn from such Gaussians).
"""

import torch

from braincl_med.cortex.cortex import Weights
from braincl_med.cortex.gaussians import SHARES, SHRINKAGE, gaussians

LEAST_DIFFERENCE = 1e-10
"""Of the rows from their mean, in units of their length; double precision rounds at 1e-16."""


def discriminant(told: Weights, classifier: Weights, shrinkage: float = SHRINKAGE) -> Weights:
    """The classifier that the moments of all samples determine.

    It is scaled to the length of the rows that it replaces, which changes no answer: the next task's training begins
    from logits of the usual size. Rows of classes without a sample stay as they are; all do where there is nothing to
    tell apart: a single class, or means that are equal but for rounding.

    Args:
        told: averaged moments.
        classifier: tensors that hold `classifier.weight` (classes, d) and `classifier.bias` (classes,).
        shrinkage: this share of the mean variance is added to the variance of every feature.

    Returns:
        `classifier.weight` and `classifier.bias`.
    """
    rows, offsets = classifier["classifier.weight"], classifier["classifier.bias"]
    new_rows, new_offsets = rows.clone(), offsets.clone()
    solution = {"classifier.weight": new_rows, "classifier.bias": new_offsets}
    present = told[SHARES] > 0
    if int(present.sum()) < 2:
        return solution
    means, covariance = gaussians(told, shrinkage)
    solved = torch.linalg.solve(covariance, means.T).T
    centre, pulled = means.mean(0), solved.mean(0)
    weight = solved - pulled
    bias = -0.5 * ((means * solved).sum(1) - centre @ pulled)
    # What is left of rows that differ by rounding alone would be blown up to the length of trained ones.
    if weight.norm() <= LEAST_DIFFERENCE * solved.norm():
        return solution
    scale = rows[present].double().norm() / weight.norm()
    new_rows[present] = (scale * weight).to(rows.dtype)
    new_offsets[present] = (scale * bias).to(offsets.dtype)
    return solution
