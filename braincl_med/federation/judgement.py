"""Whether well-formed updates are plausible, beside the network that was sent and beside each other.

Training moves a network some way, and in no hospital many times as far as in the others. What is far off is left out
of the average: a wrong unit, a broken machine, or somebody who wishes to own the result. Tensors are looked at one
after the other, so that only one of an answer's need be in memory.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from braincl_med.cortex.cortex import Tensors, Weights
from braincl_med.cortex.gaussians import SECOND
from braincl_med.messages.report import Report

BEYOND_OTHERS = 10.0
"""How many times as far as half of the hospitals' updates at most."""
TURNED = -0.5
"""The cosine of a sent network and its update below which signs are turned; one that is begun anew has about 0."""
ENOUGH = 3
"""Hospitals of which the middle one is no liar alone."""
LARGEST_STATISTICS = 1000.0
"""Times the size of the statistics that were sent that an update's may have, or of a fresh network's if that is
more."""
STATISTICS_BEYOND_OTHERS = 100.0
"""How many times the size of half of the hospitals' statistics at most."""
MOST_STEPS = 10**8
"""Batches by which one answer may add to a counter; without a limit one answer could use it up for all."""


@dataclass(frozen=True)
class Sizes:
    """What is seen of an update.

    Attributes:
        sent, told: norms of the trained tensors as they were sent and as they came back.
        moved: the norm of what is between.
        product: the scalar product of both.
        statistics: the norm of running means and variances, 0 where there are none.
    """

    sent: float
    told: float
    moved: float
    product: float
    statistics: float


def implausible(reports: Sequence[Report], sent: Weights, farthest: float) -> dict[str, str]:
    """Why updates are left out, by the hospital's name.

    Args:
        reports: answers without objection, with tensors of the network.
        sent: the network.
        farthest: how many times the size of the network an update may lie from it.

    Returns:
        A sentence for each hospital that is left out; none where all are believed.
    """
    judged = [r for r in reports if r.examples and any(name in sent for name in r.weights)]
    sizes = {report.hospital: _sizes(report.weights, sent) for report in judged}
    most = LARGEST_STATISTICS * max(_statistics_of(sent), _fresh(sent))
    alone = {r.hospital: _alone(sizes[r.hospital], farthest, most) or _counter(r.weights, sent) for r in judged}
    reasons = {name: reason for name, reason in alone.items() if reason}
    if len(sizes) >= ENOUGH:
        moved = _far({name: one.moved for name, one in sizes.items()}, BEYOND_OTHERS)
        large = _far({name: one.statistics for name, one in sizes.items()}, STATISTICS_BEYOND_OTHERS)
        for name, times in large.items():
            reasons.setdefault(
                name,
                f"its running statistics are {times:.3g} times as large as the median hospital's, at most "
                f"{STATISTICS_BEYOND_OTHERS:.0f} are believed",
            )
        for name, times in moved.items():
            reasons.setdefault(
                name,
                f"it moved {times:.3g} times as far as the median hospital, at most {BEYOND_OTHERS:.0f} are believed",
            )
    return reasons | _large_moments(reports)


def _large_moments(reports: Sequence[Report]) -> dict[str, str]:
    """Whose features are far larger than those of most hospitals; they belong to no network that was sent."""
    squares = {r.hospital: float(r.weights[SECOND].trace()) for r in reports if r.examples and SECOND in r.weights}
    if len(squares) < ENOUGH:
        return {}
    sizes = {name: math.sqrt(max(0.0, square)) for name, square in squares.items()}
    large = _far(sizes, STATISTICS_BEYOND_OTHERS)
    return {
        name: f"its features are {times:.3g} times as large as the median hospital's, at most "
        f"{STATISTICS_BEYOND_OTHERS:.0f} are believed"
        for name, times in large.items()
    }


def _alone(one: Sizes, farthest: float, statistics: float) -> str | None:
    """What is wrong with an update whatever the others say."""
    if one.sent and not one.told:
        return "all its weights are zero"
    if one.sent and one.moved > farthest * one.sent:
        return (
            f"its weights lie {one.moved / one.sent:.3g} times the network's size from those that were sent, at most "
            f"{farthest:g} are believed"
        )
    if one.product < TURNED * one.sent * one.told:
        return "its weights point away from those that were sent: their signs are turned"
    if one.statistics > statistics:
        return f"its running statistics have size {one.statistics:.3g}, at most {statistics:.3g} are believed"
    return None


def _counter(told: Tensors, sent: Weights) -> str | None:
    """Why a counter of batches is none, or None."""
    for name, before in sent.items():
        if name in told and not before.is_floating_point() and bool((told[name] - before > MOST_STEPS).any()):
            return f"'{name}' grew by more than {MOST_STEPS:,} batches"
    return None


def _far(sizes: Mapping[str, float], factor: float) -> dict[str, float]:
    """Who lies beyond `factor` times the median, and how many times."""
    middle = float(torch.tensor(list(sizes.values()), dtype=torch.float64).median())
    return {name: size / middle for name, size in sizes.items() if middle and size > factor * middle}


def _sizes(told: Tensors, sent: Weights) -> Sizes:
    squares = torch.zeros(5, dtype=torch.float64)
    for name in told:
        if name not in sent or not sent[name].is_floating_point():
            continue
        now = told[name].double().flatten()
        if "running_" in name:
            squares[4] += now @ now
            continue
        before = sent[name].double().flatten()
        step = now - before
        squares[:4] += torch.stack([before @ before, now @ now, step @ step, before @ now])
    size, told_size, moved, product, statistics = squares.tolist()
    return Sizes(math.sqrt(size), math.sqrt(told_size), math.sqrt(moved), product, math.sqrt(statistics))


def _statistics_of(sent: Weights) -> float:
    return _sizes({name: tensor for name, tensor in sent.items() if "running_" in name}, sent).statistics


def _fresh(sent: Weights) -> float:
    """The size of the statistics of a network that has seen nothing: variances of one."""
    return math.sqrt(sum(tensor.numel() for name, tensor in sent.items() if name.endswith("running_var")))
