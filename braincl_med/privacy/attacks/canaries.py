"""What a mechanism tells, measured from below with canaries in one run (Steinke, Nasr & Jagielski 2023).

    m canaries, each in the data or not by the throw of a coin  ──► one release ──► a guess of every coin that it is
    sure of  ──► as many right guesses as no (ε, δ)-private mechanism gives but once in twenty times: ε is larger

The bound can only be too low: a better attack would raise it. If it lies above what the ledger says, the mechanism or
its account is broken.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import binom  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional

from braincl_med.cortex.cortex import Weights
from braincl_med.dp.statistics import CLASS_SUMS, COUNTS, PRODUCTS

CONFIDENCE = 0.95
LARGEST_EPSILON = 30.0
HALVINGS = 40


@dataclass(frozen=True)
class Measured:
    """What canaries showed.

    Attributes:
        canaries: how many there were.
        guesses: of how many coins a guess was made.
        right: how many of these were right.
        epsilon: the largest ε that is excluded with 95 % confidence: the mechanism's is above.
    """

    canaries: int
    guesses: int
    right: int
    epsilon: float


def measured(scores: npt.NDArray[np.float64], included: npt.NDArray[np.bool_], delta: float) -> Measured:
    """The lower bound that scores of canaries give.

    Args:
        scores: (m,) higher where a canary seems to be included.
        included: (m,) whether it is.
        delta: at which ε is counted.

    The share of canaries that is guessed is fixed beforehand: half of them, those that are surest either way.
    """
    order = np.argsort(scores, kind="stable")
    each = max(1, len(scores) // 4)
    right = int((~included[order[:each]]).sum() + included[order[-each:]].sum())
    return Measured(len(scores), 2 * each, right, _bound(len(scores), 2 * each, right, delta))


def _bound(canaries: int, guesses: int, right: int, delta: float) -> float:
    low, high = 0.0, LARGEST_EPSILON
    if _probability(canaries, guesses, right, 0.0, delta) > 1 - CONFIDENCE:
        return 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        excluded = _probability(canaries, guesses, right, middle, delta) < 1 - CONFIDENCE
        low, high = (middle, high) if excluded else (low, middle)
    return low


def _probability(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The most likely that so many guesses are right under any (ε, δ)-private mechanism (theorem 5.2)."""
    share = 1 / (1 + np.exp(-epsilon))
    fewer = np.cumsum(binom.pmf(right - np.arange(1, right + 1), guesses, share))
    slack = float((fewer / np.arange(1, right + 1)).max()) if right else 0.0
    return min(1.0, float(binom.sf(right - 1, guesses, share)) + 2 * canaries * delta * slack)


def canaries_in_statistics(
    tell: Callable[[Tensor, Tensor], Weights], width: int, classes: int, canaries: int, delta: float, seed: int
) -> Measured:
    """Measure a release of statistics: of features (n, width) no longer than 1 and their labels (n,).

    Canaries are random directions at full length, so that hardly any two look alike to the sums; what a sum tells of
    each is read off by least squares over all of them.

    Args:
        tell: the release that is measured.
        width: of features.
        classes: of labels.
        canaries: m; half of them or so are told of.
        delta: at which ε is counted.
        seed: of canaries and coins.
    """
    generator = torch.Generator().manual_seed(seed)
    features = functional.normalize(torch.randn(canaries, width, generator=generator))
    labels = torch.randint(0, classes, (canaries,), generator=generator)
    included = torch.rand(canaries, generator=generator) < 0.5
    told = _vector(tell(features[included], labels[included]))
    design = torch.stack([_of_one(feature, label, classes) for feature, label in zip(features, labels, strict=True)])
    # Shrunk towards nothing where canaries look alike, as noise of the release's own size asks for.
    residue = told - 0.5 * design.sum(0)
    products = design @ design.T
    solved = torch.linalg.solve(
        products + products.diagonal().mean() * torch.eye(canaries).double(), design @ residue
    )
    return measured(solved.numpy(), included.numpy(), delta)


def _of_one(feature: Tensor, label: Tensor, classes: int) -> Tensor:
    member = functional.one_hot(label, classes).double()
    value = feature.double()
    sums = {COUNTS: member, CLASS_SUMS: torch.outer(member, value), PRODUCTS: torch.outer(value, value)}
    return _vector(sums)


def _vector(told: Weights) -> Tensor:
    """Statistics as the vector that noise was added to: the upper triangle of products, off the diagonal times √2."""
    products = told[PRODUCTS]
    rows, columns = torch.triu_indices(*products.shape)
    weights = torch.where(rows == columns, 1.0, 2**0.5).double()
    return torch.cat([told[COUNTS], told[CLASS_SUMS].flatten(), products[rows, columns] * weights])
