"""One noisy release of what a closed-form classifier needs: counts, sums of features, and their second moment.

    a scan of class c with features f, ‖f‖ ≤ 1, adds   (e_c,  e_c ⊗ f,  f fᵀ)     of length at most √3
    a patient adds the mean of their scans             as long at most
    released:  Σ over units + m √3 · normal noise in every coordinate              (ε, δ) by `dp.gaussian`

Features are that long at most because the backbone ends in a `cortex.reduction.Reduction`, which was fitted to
public scans. f fᵀ is symmetric: with its off-diagonal entries times √2 the upper triangle has the same length, so
their noise is smaller by √2 than the diagonal's.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from braincl_med.cortex.cortex import Tensors, Weights
from braincl_med.cortex.gaussians import LEAST_VARIANCE, SECOND, SHARES, SUMS
from braincl_med.dp.gaussian import noise

STATISTICS = "statistics."
COUNTS, CLASS_SUMS, PRODUCTS = STATISTICS + "counts", STATISTICS + "sums", STATISTICS + "products"
RELEASES = STATISTICS + "releases"
"""How many releases were added up: the noise of each is in the sum."""
RIDGE = 0.02
"""Share of the mean variance that is added to every direction's, beside what noise asks for."""
SENSITIVITY = math.sqrt(3)
"""The length of what one unit adds."""
LARGEST = 1e10
"""Of a sum over a hundred million scans."""
ROUNDING = 1e-9


def statistics(features: Tensor, labels: Tensor, classes: int, groups: Tensor | None = None) -> Weights:
    """Sums over units of what each of them adds, without noise, in double precision.

    Args:
        features: (n, d) of length at most 1; longer ones are cut to it, and such that are no numbers count as zero.
        labels: (n,) class numbers below `classes`.
        classes: rows of the classifier.
        groups: (n,) number of each scan's patient; without it every scan is a unit.
    """
    values, members = _bounded(features.double()), functional.one_hot(labels.long(), classes).double()
    share = torch.ones(len(values), dtype=torch.float64)
    if groups is not None and len(groups):
        _, place, counts = torch.unique(groups, return_inverse=True, return_counts=True)
        share = 1 / counts.double()[place]
    weighted = values * share[:, None]
    return {
        COUNTS: (members * share[:, None]).sum(0),
        CLASS_SUMS: members.T @ weighted,
        PRODUCTS: values.T @ weighted,
    }


def _bounded(values: Tensor) -> Tensor:
    """Features of length at most 1, whatever the network was made to do with a scan.

    Nothing is refused for one scan's sake: under a network that overflows where a certain scan is, a refusal would
    tell, without noise, that it is there.
    """
    values = torch.where(values.isfinite().all(1, keepdim=True), values, 0.0)
    bounded: Tensor = values / values.norm(dim=1, keepdim=True).clamp_min(1)
    return bounded


def released(exact: Weights, classes: range, multiplier: float, generator: np.random.Generator) -> Weights:
    """Statistics with noise, in the rows of the classes that are told of; other rows are zero as before.

    Args:
        exact: of `statistics`.
        classes: which have scans here, or might.
        multiplier: of the noise, in units of `SENSITIVITY`.
        generator: secret.
    """
    deviation = multiplier * SENSITIVITY
    told = {name: tensor.clone() for name, tensor in exact.items()}
    rows, width = slice(classes.start, classes.stop), exact[PRODUCTS].shape[0]
    told[COUNTS][rows] += torch.from_numpy(noise((len(classes),), deviation, generator))
    told[CLASS_SUMS][rows] += torch.from_numpy(noise((len(classes), width), deviation, generator))
    upper = np.triu(noise((width, width), deviation / math.sqrt(2), generator), 1)
    diagonal = np.diag(noise((width,), deviation, generator))
    told[PRODUCTS] += torch.from_numpy(upper + upper.T + diagonal)
    return told


def accumulated(
    mean: Weights, samples: int, releases: int, former: Weights, deviation: float
) -> tuple[Weights, Weights]:
    """The statistics of all tasks so far, and the moments that follow from them.

    Args:
        mean: of the hospitals' statistics a scan, weighted by scans.
        samples: that these say they have, together.
        releases: of how many hospitals it is the mean.
        former: statistics of the tasks before, of fewer classes; empty at first.
        deviation: of the noise on one count in one release, as each hospital drew it.
    """
    sums = added(mean, samples, former)
    made = former.get(RELEASES, torch.zeros((), dtype=torch.float64)) + releases
    return {**sums, RELEASES: made}, moments_of(sums, deviation * math.sqrt(float(made)))


def added(mean: Weights, samples: int, former: Weights) -> Weights:
    """The sums of all tasks so far; arguments as of `accumulated`."""
    new = {name: tensor * samples for name, tensor in mean.items()}
    before = padded(former, len(new[COUNTS])) if former else {}
    return {name: tensor + before[name] if before else tensor for name, tensor in new.items()}


def moments_of(told: Weights, deviation: float) -> Weights:
    """The moments (`cortex.gaussians`) of the samples that noisy sums belong to.

    What noise alone would have made is taken for nothing: counts below one are none, and the covariance within
    classes gets no direction below the largest eigenvalue that noise has on its own, 2 s √d / n with s the standard
    deviation of an off-diagonal entry (Wigner's semicircle). So the shrinkage follows from the release.

    Args:
        told: sums over hospitals and tasks.
        deviation: standard deviation of the noise of a count, over all of them.
    """
    counts = told[COUNTS].clamp_min(0)
    present = counts >= 1
    counts = torch.where(present, counts, torch.zeros_like(counts))
    total = counts.sum().clamp_min(1)
    sums = told[CLASS_SUMS] * present[:, None]
    means = sums / counts.clamp_min(1)[:, None]
    within = told[PRODUCTS] / total - means.T @ (means * counts[:, None]) / total
    values, vectors = torch.linalg.eigh((within + within.T) / 2)
    least = max(float(noise_floor(deviation, len(within)) / total), LEAST_VARIANCE)
    within = (vectors * values.clamp_min(least)) @ vectors.T
    return {
        SHARES: counts / total,
        SUMS: sums / total,
        SECOND: within + means.T @ (means * counts[:, None]) / total,
    }


def no_statistics(classifier: Weights) -> Weights:
    """Statistics of nothing: names, shapes and types for a classifier of `classifier.weight`'s shape."""
    classes, width = classifier["classifier.weight"].shape
    return statistics(torch.zeros(0, width), torch.zeros(0), classes)


def impossible_statistics(told: Tensors) -> str | None:
    """Why statistics cannot be those of scans with noise, or None: noise turns signs, but makes nothing huge."""
    if max(float(tensor.abs().max()) for tensor in told.values()) > LARGEST:
        return "its statistics are larger than any scans have"
    lopsided = float((told[PRODUCTS] - told[PRODUCTS].T).abs().max())
    return "its products of features are not symmetric" if lopsided > ROUNDING * LARGEST else None


def noise_floor(deviation: float, width: int) -> float:
    """The largest eigenvalue that noise alone gives the sum of products (width, width)."""
    return 2 * deviation / math.sqrt(2) * math.sqrt(width)


def padded(told: Weights, classes: int) -> Weights:
    """Statistics with rows of zeros up to `classes`."""
    more = classes - len(told[COUNTS])
    return {
        COUNTS: functional.pad(told[COUNTS], (0, more)),
        CLASS_SUMS: functional.pad(told[CLASS_SUMS], (0, 0, 0, more)),
        PRODUCTS: told[PRODUCTS],
    }
