"""The Gaussian mechanism, exactly (Balle & Wang 2018, theorem 8).

A sum to which every unit adds a vector of length at most Δ, with normal noise of standard deviation m Δ in every
coordinate, is (ε, δ)-differentially private for adding or removing a unit if and only if

    δ ≥ Φ(1 / 2m − ε m) − e^ε Φ(−1 / 2m − ε m)

with m the noise multiplier. Several such releases on the same units are as one with 1 / m² = Σ 1 / mᵢ² (Dong, Roth &
Su 2022).
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

LARGEST_EPSILON = 1e4
LARGEST_MULTIPLIER = 1e6
HALVINGS = 200


def delta_of(multiplier: float, epsilon: float) -> float:
    """The least δ at which a release with this noise multiplier is (ε, δ)-private."""
    near, far = 0.5 / multiplier - epsilon * multiplier, -0.5 / multiplier - epsilon * multiplier
    return max(0.0, _normal(near) - math.exp(min(epsilon + _log_normal(far), 0.0)))


def epsilon_of(multiplier: float, delta: float) -> float:
    """The least ε at which a release with this noise multiplier is (ε, δ)-private; infinite without noise."""
    if multiplier <= 0 or delta_of(multiplier, LARGEST_EPSILON) > delta:
        return math.inf
    return _least(lambda epsilon: delta_of(multiplier, epsilon) <= delta, LARGEST_EPSILON)


def multiplier_for(epsilon: float, delta: float) -> float:
    """The least noise multiplier with which a release is (ε, δ)-private, both positive."""
    return _least(lambda multiplier: multiplier > 0 and delta_of(multiplier, epsilon) <= delta, LARGEST_MULTIPLIER)


def together(multipliers: Iterable[float]) -> float:
    """The noise multiplier of the one release that several on the same units are as good as; infinite for none."""
    precision = sum(multiplier**-2 if multiplier > 0 else math.inf for multiplier in multipliers)
    return precision**-0.5 if precision else math.inf


def noise(shape: tuple[int, ...], deviation: float, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Normal numbers of this standard deviation; zeros where that is zero."""
    return generator.standard_normal(shape) * deviation if deviation else np.zeros(shape)


def secret_generator() -> np.random.Generator:
    """A generator that nobody can follow, seeded by the operating system's entropy.

    An experiment's seed is known to the server, which could take noise drawn by it off again.
    """
    return np.random.default_rng()


def _least(enough: Callable[[float], bool], largest: float) -> float:
    """The least number up to `largest` that is enough, by halving; the upper end of the last interval."""
    low, high = 0.0, largest
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _log_normal(x: float) -> float:
    """Log Φ(x), also where Φ underflows: by its asymptotic series."""
    if x > -30:
        return math.log(_normal(x))
    return -0.5 * x * x - math.log(-x * math.sqrt(2 * math.pi)) + math.log1p(-(x**-2))
