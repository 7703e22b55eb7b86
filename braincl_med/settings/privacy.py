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
    With `noise: each` every hospital adds all the noise; with `shared`, of `statistics` under masks, its share, so
    that a sum holds it once (`dp.shares`).
    """

    mode: Mode = "off"
    epsilon: float = Field(default=3, gt=0, le=100)
    delta: float = Field(default=1e-5, gt=0, le=1e-3)
    release_epsilon: float = Field(default=2, gt=0, le=100)
    figures_epsilon: float = Field(default=1, gt=0, le=100)
    noise_multiplier: float = Field(default=1, gt=0, le=1000)
    noise: Literal["each", "shared"] = "each"
    clipping: float = Field(default=1, gt=0)


Rule = tuple[str, str, tuple[object, ...], str]
OUTSIDE: dict[Mode, tuple[Rule, ...]] = {
    "off": (),
    "statistics": (
        (
            "cortex",
            "features",
            (),
            "one scan adds to a sum without bound unless public scans taught its features' size",
        ),
    ),
    "updates": (
        ("memory", "basis", ("fixed", "public"), "components of a task's scans tell of all of them in every recall"),
        ("selection", "rule", ("random",), "which samples lie near the mean of their class depends on all of them"),
        ("sleep", "balance", ("none",), "weights of classes are their counts"),
        ("sleep", "classifier", ("trained",), "moments are sums that nothing bounds"),
        ("federation", "classifier_rows", ("by-examples",), "hospitals tell their counts of classes"),
        ("federation", "familiarity", ("own",), "moments are sums that nothing bounds"),
    ),
}
"""What reads scans outside of the mechanism, by mode: section, key, values under which it does not, and why it would.
Where none is named, any but none is right.

Beside these, under any mode (`methods.private`, `methods.publish`): test figures are noisy counts, scores of unknown
scans, bytes at rest and training losses are not told, temperature and threshold stay at their neutral values, and
numbers of scans are noisy or one. The guide and the selection of `statistics` stay in the vault, of which nothing
leaves but the release.
"""
