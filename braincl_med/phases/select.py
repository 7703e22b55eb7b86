"""Select: which recalled samples of a class move to long-term memory (eq. 5 and 6)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from braincl_med.foundation.arrays import Labels, Positions
from braincl_med.settings.methods import Rule

Features = npt.NDArray[np.float32]


def select(
    features: Features,
    labels: Labels,
    count: int,
    rule: Rule,
    seed: int,
) -> dict[int, Positions]:
    """Choose at most `count` samples of each class.

    Args:
        features: (n, d) features f(x̂) of recalled samples.
        labels: (n,) class numbers; the samples of a class stand in the order of its shard.
        count: k, samples to keep of each class.
        rule: `nearest` to the class mean (the paper), `herding` (iCaRL, Rebuffi et al. 2017, alg. 4), or `random`.
        seed: of the random rule.

    Returns:
        For each class the kept positions among the class's samples, ascending.
    """
    chosen: dict[int, Positions] = {}
    for label in np.unique(labels).tolist():
        mine = features[labels == label].astype(np.float64)
        order = np.arange(len(mine)) if len(mine) <= count else ranked(mine, count, rule, [seed, label])
        chosen[label] = np.sort(order).astype(np.int64)
    return chosen


def ranked(features: npt.NDArray[np.float64], count: int, rule: Rule, seed: Sequence[int]) -> Positions:
    """`count` positions of one class's (n, d) features, the first choice of `rule` first.

    Fewer positions are always the beginning of more.
    """
    if rule == "nearest":
        return nearest_to_mean(features)[:count]
    if rule == "herding":
        return herding(features, count)
    return np.random.default_rng(seed).permutation(len(features))[:count].astype(np.int64)


def nearest_to_mean(features: npt.NDArray[np.float64]) -> Positions:
    """All positions of (n, d) features, the nearest to their mean first (eq. 6)."""
    distances = np.linalg.norm(features - features.mean(0), axis=1)
    return np.argsort(distances, kind="stable").astype(np.int64)


def herding(features: npt.NDArray[np.float64], count: int) -> Positions:
    """`count` positions of (n, d) features, each chosen so that the running mean stays nearest to the class mean.

    The features are normalised first, as iCaRL does.
    """
    units = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    mean, total = units.mean(0), np.zeros(units.shape[1])
    left = np.ones(len(units), bool)
    order = np.empty(count, np.int64)
    for i in range(count):
        distances = np.linalg.norm(mean - (total + units) / (i + 1), axis=1)
        distances[~left] = np.inf
        order[i] = np.argmin(distances)
        left[order[i]] = False
        total += units[order[i]]
    return order
