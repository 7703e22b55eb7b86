"""Whether well-formed updates are plausible, beside the network that was sent and beside each other.

Training moves a network some way, and in no hospital a hundred times as far as in the others. What is far off is left
out of the average: a wrong unit, a broken machine, or somebody who wishes to own the result.
"""

from collections.abc import Sequence

import torch

from braincl_med.cortex.cortex import Weights
from braincl_med.messages.report import Report

FARTHEST = 30.0
"""How many times the size of the network that was sent an update may lie from it."""
BEYOND_OTHERS = 10.0
"""How many times as far as half of the hospitals' updates at most."""
ENOUGH = 3
"""Hospitals of which the middle one is no liar alone."""


def implausible(reports: Sequence[Report], sent: Weights) -> dict[str, str]:
    """Why updates are left out, by the hospital's name.

    Args:
        reports: answers without objection, with tensors of the network.
        sent: the network.
    """
    steps, reasons = {}, {}
    for report in reports:
        told = {n: t for n, t in report.weights.items() if t.is_floating_point() and "running_" not in n and n in sent}
        if not told or not report.examples:
            continue
        size, moved, along = _measured(told, sent)
        steps[report.hospital] = moved
        if not any(bool(tensor.any()) for tensor in told.values()):
            reasons[report.hospital] = "all its weights are zero"
        elif size and moved > FARTHEST * size:
            reasons[report.hospital] = (
                f"its weights lie {moved / size:.3g} times the network's size from those that were sent, at most "
                f"{FARTHEST:.0f} are believed"
            )
        elif along < 0:
            reasons[report.hospital] = "its weights point away from those that were sent, as if their signs were turned"
    if len(steps) >= ENOUGH:
        middle = float(torch.tensor(list(steps.values()), dtype=torch.float64).median())
        for name, moved in steps.items():
            if name not in reasons and middle and moved > BEYOND_OTHERS * middle:
                reasons[name] = (
                    f"it moved {moved / middle:.3g} times as far as the median hospital, at most {BEYOND_OTHERS:.0f} "
                    "are believed"
                )
    return reasons


def _measured(told: Weights, sent: Weights) -> tuple[float, float, float]:
    """The size of what was sent, the distance of what was told from it, and the product of both; in double precision."""
    size = moved = along = 0.0
    for name, tensor in told.items():
        before, now = sent[name].double(), tensor.double()
        size += float(before.square().sum())
        moved += float((now - before).square().sum())
        along += float((now * before).sum())
    return size**0.5, moved**0.5, along
