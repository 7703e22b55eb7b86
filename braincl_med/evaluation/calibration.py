"""Whether a network is as right as it says: from histograms of the confidence of its right and its wrong answers.

Confidence is the maximum softmax probability at the operating point's temperature, counted over the bins of
`evaluation.rejection.EDGES["max-softmax"]`; of a scan its bin's middle is known and no more. Histograms of hospitals
add up.
"""

from dataclasses import dataclass

import numpy as np

from braincl_med.evaluation.continual import Figures
from braincl_med.evaluation.intervals import wilson
from braincl_med.evaluation.rejection import EDGES
from braincl_med.evaluation.tally import Counts

FINE: Figures = EDGES["max-softmax"]
MIDDLES: Figures = (FINE[:-1] + FINE[1:]) / 2
BINS = 10
"""Of the reliability curve, of one width."""
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Of all scans, those that are referred to a person in the referral curve."""


@dataclass(frozen=True)
class Reliability:
    """The answers of one bin of confidence.

    Attributes:
        low, high: the bin's ends.
        scans: how many answers lie in it.
        confidence: their mean confidence.
        accuracy: the share of right ones.
        interval: Wilson's, of that share.
    """

    low: float
    high: float
    scans: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Referral:
    """What is answered when the least sure scans are left to a person.

    Attributes:
        asked: the share that was to be referred.
        referred: the share that is: whole bins, so at least as much.
        answered: how many scans remain.
        accuracy: the share of right answers among them; NaN where none remains.
        interval: Wilson's, of that share.
    """

    asked: float
    referred: float
    answered: int
    accuracy: float
    interval: tuple[float, float]


def reliability(right: Counts, wrong: Counts, bins: int = BINS) -> list[Reliability]:
    """Accuracy by confidence, of bins that have scans (DeGroot & Fienberg 1983).

    Args:
        right, wrong: counts over the bins of `FINE`.
        bins: of one width over [0, 1], a divisor of 10, so that every fine bin lies in one.
    """
    place = np.minimum((MIDDLES * bins).astype(int), bins - 1)
    rows = []
    for number in range(bins):
        inside = place == number
        good, scans = int(right[inside].sum()), int((right + wrong)[inside].sum())
        if scans:
            confidence = float(((right + wrong) * MIDDLES)[inside].sum() / scans)
            interval = wilson(good, scans)
            rows.append(Reliability(number / bins, (number + 1) / bins, scans, confidence, good / scans, interval))
    return rows


def calibration_error(right: Counts, wrong: Counts, bins: int = BINS) -> float:
    """Expected calibration error: Σ n_b/n · |accuracy_b − confidence_b| (Naeini et al. 2015); NaN without scans."""
    rows = reliability(right, wrong, bins)
    scans = sum(row.scans for row in rows)
    if not scans:
        return float("nan")
    return sum(row.scans * abs(row.accuracy - row.confidence) for row in rows) / scans


def referrals(right: Counts, wrong: Counts, shares: tuple[float, ...] = SHARES) -> list[Referral]:
    """How right the rest is when at least each of `shares` of the scans, the least sure, is referred to a person.

    The curve of selective prediction (El-Yaniv & Wiener 2010); none without scans.
    """
    both = right + wrong
    scans = int(both.sum())
    below = np.concatenate([[0], np.cumsum(both)])
    found = []
    for share in shares if scans else ():
        # A share of scans such as 0.1 · 30 has rounding of its own.
        first = int(np.argmax(below >= share * scans - 1e-9))
        good, answered = int(right[first:].sum()), int(both[first:].sum())
        accuracy = good / answered if answered else float("nan")
        found.append(Referral(share, int(below[first]) / scans, answered, accuracy, wilson(good, answered)))
    return found
