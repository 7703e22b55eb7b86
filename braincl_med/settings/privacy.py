"""Settings of differential privacy: what a hospital's releases may tell of one scan, or of one patient."""

from typing import Literal

from pydantic import Field

from braincl_med.settings.section import Section

Mode = Literal["off", "statistics", "updates"]


class PrivacyConfig(Section):
    """Differential privacy of all that leaves a hospital (docs/privacy.md); `off` bounds nothing.

    `statistics` tells one noisy sum a task of features of a backbone that public scans taught, and no more: the
    classifier is solved from them. `updates` trains by DP-SGD in wake and sleep: clipped gradients with noise of
    `noise-multiplier`, of batches that are drawn scan by scan.

    `epsilon` at `delta` is what a hospital allows in all, over everything that it ever releases; its node may allow
    less. A release of statistics, or of the counts of an evaluation, spends `release-epsilon` and `figures-epsilon`.
    """

    mode: Mode = "off"
    epsilon: float = Field(default=3, gt=0, le=100)
    delta: float = Field(default=1e-5, gt=0, lt=0.1)
    release_epsilon: float = Field(default=2, gt=0, le=100)
    figures_epsilon: float = Field(default=1, gt=0, le=100)
    noise_multiplier: float = Field(default=1, gt=0, le=1000)
    clipping: float = Field(default=1, gt=0)
