"""How much of a release's noise one hospital draws: all, or its share where only sums are seen.

This is the distributed noise of Goryczka & Xiong (2015).

Under masks nobody sees less than a sum over hospitals. With `privacy-noise: shared` each draws noise of 1 / h of the
variance, h being how many hospitals' noise is in every sum that can be had, also where the server lies to get a small
one and one of the hospitals helps it, which knows its own noise (`hidden_least`).

A repeated order is answered by the same numbers. Summed again over others they would tell one hospital's part with
its share of the noise alone; `masking.ledger` refuses that. With another share they are other numbers
(`methods.private.digest_of`). All numbers of a sum get noise from every hospital in it: so no hospital tells of tasks
that it missed, and its masks fit those of hospitals with the same settings alone (`federation.masks.context_of`).
"""

import math

from braincl_med.dp.gaussian import multiplier_for
from braincl_med.dp.statistics import SENSITIVITY
from braincl_med.settings.config import ExperimentConfig


def noise_share(config: ExperimentConfig) -> float:
    """The standard deviation of one hospital's noise, as a share of what the release needs."""
    if config.privacy.noise == "each":
        return 1.0
    return 1 / math.sqrt(hidden_least(config.federation.hospitals, config.federation.masked_least))


def hidden_least(hospitals: int, threshold: int) -> int:
    """The fewest hospitals whose noise is in a sum that a server gets together with one other hospital.

    Of n − 1 honest hospitals each may be told another story, in which up to n − t have dropped out. Whoever is to be
    kept out of a sum of fewer than t must have dropped out of t − 1 such stories: so at most
    (n − 1)(n − t) / (t − 1) of them can be. With t of n or (n − t)² < t it is t − 1.
    """
    out = (hospitals - 1) * (hospitals - threshold) // (threshold - 1)
    return max(1, hospitals - 1 - out)


def count_deviation(config: ExperimentConfig, multiplier: float) -> float:
    """The standard deviation of one hospital's noise on one count of an evaluation.

    Counts are whole, and so is each hospital's noise: below a deviation of 1 most of it would be rounded away before
    it is summed.
    """
    deviation = multiplier * noise_share(config)
    return deviation if config.privacy.noise == "each" else max(deviation, 1.0)


def release_deviation(config: ExperimentConfig) -> float:
    """The standard deviation of one hospital's noise on one count in one release of statistics."""
    privacy = config.privacy
    return multiplier_for(privacy.release_epsilon, privacy.delta) * SENSITIVITY * noise_share(config)
