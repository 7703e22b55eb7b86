"""Whether well-formed updates are plausible, beside the network that was sent and beside each other.

Training moves a network some way, and in no hospital many times as far as in the others. What is far off is left out
of the average: a wrong unit, a broken machine, or somebody who wishes to own the result.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from braincl_med.cortex.cortex import Weights
from braincl_med.messages.report import Report

FARTHEST = 10.0
"""How many times the size of the network that was sent an update may lie from it; 0.23 was the most that was seen."""
BEYOND_OTHERS = 10.0
"""How many times as far as half of the hospitals' updates at most."""
TURNED = -0.5
"""The cosine of a sent network and its update below which signs are turned; one that is begun anew has about 0."""
ENOUGH = 3
"""Hospitals of which the middle one is no liar alone."""


def implausible(reports: Sequence[Report], sent: Weights) -> dict[str, str]:
    """Why updates are left out, by the hospital's name.

    Args:
        reports: answers without objection, with tensors of the network.
        sent: the network.

    Returns:
        A sentence for each hospital that is left out; none where all are believed.
    """
    steps: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for report in reports:
        told = {name: tensor for name, tensor in report.weights.items() if name in sent and _judged(name, tensor)}
        if not told or not report.examples:
            continue
        before, now = (_joined(told, weights) for weights in (sent, report.weights))
        size, moved = float(before.norm()), float((now - before).norm())
        steps[report.hospital] = moved
        if not bool(now.any()):
            reasons[report.hospital] = "all its weights are zero"
        elif size and moved > FARTHEST * size:
            reasons[report.hospital] = (
                f"its weights lie {moved / size:.3g} times the network's size from those that were sent, at most "
                f"{FARTHEST:.0f} are believed"
            )
        elif float(before @ now) < TURNED * size * float(now.norm()):
            reasons[report.hospital] = "its weights point away from those that were sent: their signs are turned"
    if len(steps) >= ENOUGH:
        middle = float(torch.tensor(list(steps.values()), dtype=torch.float64).median())
        for name, moved in steps.items():
            if name not in reasons and middle and moved > BEYOND_OTHERS * middle:
                reasons[name] = (
                    f"it moved {moved / middle:.3g} times as far as the median hospital, at most {BEYOND_OTHERS:.0f} "
                    "are believed"
                )
    return reasons


def _judged(name: str, tensor: Tensor) -> bool:
    """Statistics and counters have limits of their own (`messages.update`)."""
    return tensor.is_floating_point() and "running_" not in name


def _joined(names: Iterable[str], weights: Weights) -> Tensor:
    """All numbers of some tensors in a row, in double precision."""
    return torch.cat([weights[name].double().flatten() for name in names])
