"""Whether somebody can tell that a scan was learned: the likelihood-ratio attack (LiRA), and how well it does.

Carlini et al., "Membership Inference Attacks From First Principles" (2022). The attacker measures one figure of a
scan and of the target, such as how badly the network rebuilds the scan. The same figure is measured on shadows,
fitted by the attacker to random halves of a pool of scans, so that for every scan it is known what the figure is like
with it inside and without.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from braincl_med.evaluation.intervals import auc_interval, wilson
from braincl_med.foundation.arrays import Labels

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

FALSE_POSITIVES = (0.01, 0.001)
"""Shares of strangers taken for members at which the share of members found is told."""
LEAST_DEVIATION = 1e-6


@dataclass(frozen=True)
class Membership:
    """How well scores tell members from scans that were not learned.

    Attributes:
        scores: (n,) the higher, the likelier a member.
        members: (n,) whether it was learned.
        labels: (n,) class numbers.
    """

    scores: Values
    members: Flags
    labels: Labels

    @staticmethod
    def join(parts: Sequence["Membership"]) -> "Membership":
        """All scans of `parts`, whose scores are of one measure."""
        return Membership(
            np.concatenate([p.scores for p in parts]),
            np.concatenate([p.members for p in parts]),
            np.concatenate([p.labels for p in parts]),
        )

    def as_json(self) -> dict[str, Any]:
        """The figures, as they stand in an audit's report; by class, too."""
        whole = self._figures()
        classes = []
        for label in np.unique(self.labels).tolist():
            mine = self.labels == label
            part = Membership(self.scores[mine], self.members[mine], self.labels[mine])
            classes.append({"class": label, **part._figures()})
        return {**whole, "classes": classes}

    def _figures(self) -> dict[str, Any]:
        inside, outside = self.scores[self.members], self.scores[~self.members]
        area = auc(self.scores, self.members)
        found = []
        for rate in FALSE_POSITIVES:
            hits = found_at(self.scores, self.members, rate)
            interval = list(wilson(hits, len(inside)))
            found.append({"false-positives": rate, "found": hits / max(1, len(inside)), "interval": interval})
        return {
            "members": len(inside),
            "strangers": len(outside),
            "auc": area,
            "interval": list(auc_interval(area, len(inside), len(outside))),
            "found": found,
        }


def auc(scores: Values, members: Flags) -> float:
    """How often a member has a higher score than a stranger, ties counted half; 0.5 where one kind is missing."""
    inside, outside = scores[members], np.sort(scores[~members])
    if not len(inside) or not len(outside):
        return 0.5
    below, up_to = np.searchsorted(outside, inside, "left"), np.searchsorted(outside, inside, "right")
    return float((below + up_to).mean() / 2 / len(outside))


def found_at(scores: Values, members: Flags, rate: float) -> int:
    """How many members lie above the threshold that at most a share `rate` of strangers passes.

    Of fewer strangers than 1 / rate none passes, so that more members may be found at the rate than are counted.
    """
    inside, outside = scores[members], np.sort(scores[~members])[::-1]
    allowed = int(rate * len(outside) + 1e-9)
    threshold = outside[allowed] if allowed < len(outside) else -np.inf
    return int((inside > threshold).sum())


def halves(scans: int, shadows: int, seed: int) -> Flags:
    """(shadows, scans) which scans each shadow is fitted to: of two in turn either has the scans the other lacks."""
    rng = np.random.default_rng(seed)
    inside = np.zeros((shadows, scans), np.bool_)
    for first in range(0, shadows, 2):
        inside[first, rng.permutation(scans)[: scans // 2]] = True
        inside[first + 1 :][:1] = ~inside[first]
    return inside


def lira(target: Values, shadows: Values, inside: Flags, *, online: bool = True) -> Values:
    """The log likelihood ratio of a scan being a member, both hypotheses Gaussian.

    Means are each scan's own; deviations, which few shadows cannot tell apart, are those of all scans.

    Args:
        target: (n,) the figure of each scan at the target.
        shadows: (s, n) at each shadow.
        inside: (s, n) whether the shadow was fitted to the scan; of every scan some must be and some not.
        online: compare with shadows that had the scan and such that had not; otherwise, where shadows are of another
            kind than the target, only by how much the figure is above those that had not.

    Returns:
        (n,) scores.

    Raises:
        ValueError: of a scan no shadow is of a kind that is needed.
    """
    if not (~inside).any(0).all() or (online and not inside.any(0).all()):
        raise ValueError("some scan is inside all shadows, or inside none")
    out, spread_out = _gaussian(shadows, ~inside)
    if not online:
        return (target - out) / spread_out
    within, spread_within = _gaussian(shadows, inside)
    ratio: Values = ((target - out) / spread_out) ** 2 / 2 - ((target - within) / spread_within) ** 2 / 2
    return ratio + float(np.log(spread_out / spread_within))


def _gaussian(shadows: Values, chosen: Flags) -> tuple[Values, float]:
    """Each scan's mean over its chosen shadows, and the deviation from it over all."""
    mean = (shadows * chosen).sum(0) / chosen.sum(0)
    freedom = max(1, int(chosen.sum() - chosen.shape[1]))
    spread = float(np.sqrt((((shadows - mean) * chosen) ** 2).sum() / freedom))
    return mean, max(spread, LEAST_DEVIATION)
