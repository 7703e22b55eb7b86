"""How much of a release's noise one hospital draws: all, or its share where only sums are seen.

This is the distributed noise of Goryczka & Xiong (2015).

Under masks nobody sees less than the sum of t hospitals, t being the threshold. With `privacy-noise: shared` each
draws noise of 1 / (t − 1) of the variance, so that in every sum the others' noise is all of it, even for one of the
hospitals, which knows its own. k hospitals that lay together what they know leave (t − k) / (t − 1) of the variance.

A repeated order is answered by the same numbers. Summed again over others they would tell one hospital's part with
its share of the noise alone; `masking.ledger` refuses that.
"""

import math

from braincl_med.dp.gaussian import multiplier_for
from braincl_med.dp.statistics import SENSITIVITY
from braincl_med.settings.config import ExperimentConfig


def noise_share(config: ExperimentConfig) -> float:
    """The standard deviation of one hospital's noise, as a share of what the release needs."""
    if config.privacy.noise == "each":
        return 1.0
    return 1 / math.sqrt(config.federation.masked_least - 1)


def release_deviation(config: ExperimentConfig) -> float:
    """The standard deviation of one hospital's noise on one count in one release of statistics."""
    privacy = config.privacy
    return multiplier_for(privacy.release_epsilon, privacy.delta) * SENSITIVITY * noise_share(config)
