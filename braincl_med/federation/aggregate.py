"""Federated averaging of hospitals' updates (McMahan et al. 2017), and its variants.

Tensors are joined one after the other, so that an average holds one hospital's of one name at a time, and a median
all hospitals' of one name.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import chain
from typing import Protocol

import torch

from braincl_med.cortex.cortex import Weights
from braincl_med.foundation.errors import FederationError
from braincl_med.messages.report import Report
from braincl_med.settings.federation import FEWEST_ROBUST, FederationConfig


class Join(Protocol):
    """What makes one network of the answers of a round."""

    def __call__(self, reports: Sequence[Report], shared: Weights) -> Weights:
        """The shared network with every updated tensor replaced.

        Args:
            reports: answers without objection, all with the same tensors.
            shared: the network that was sent out.

        Raises:
            ValueError: the examples add up to nothing.
            FederationError: it takes more answers than there are.
        """


def join_of(config: FederationConfig) -> Join:
    """How a configuration joins updates."""
    if config.robust != "none":
        return median if config.robust == "median" else trimmed_mean
    return by_class if config.classifier_rows == "by-class" else average


def by_class(reports: Sequence[Report], shared: Weights) -> Weights:
    """`average`, but the classifier's rows weighted by the samples of their classes."""
    return average_rows_by_class(reports, average(reports, shared))


ROWS = ("classifier.weight", "classifier.bias")


def _has_rows(report: Report) -> bool:
    return all(name in report.weights for name in ROWS)


def average_rows_by_class(reports: Sequence[Report], averaged: Weights) -> Weights:
    """The averaged network with each classifier row averaged anew, weighted by the hospitals' samples of its class.

    A hospital that has no sample of a class only pushes its row down; here it has no say in it. Rows of classes that
    nobody has stay as they were averaged, and so does everything when no report tells its counts.

    Args:
        reports: answers without objection; `figures["classes"]` counts samples by class number.
        averaged: what `average` made of them.
    """
    classes = len(averaged["classifier.bias"])
    told = sorted(
        (r for r in reports if r.examples > 0 and len(r.figures.get("classes", ())) == classes and _has_rows(r)),
        key=lambda r: r.hospital,
    )
    if not told:
        return averaged
    counts = torch.tensor([r.figures["classes"] for r in told], dtype=torch.float64)
    total = counts.sum(0)
    merged = dict(averaged)
    for name in ROWS:
        rows = torch.stack([r.weights[name].double() for r in told])
        shares = (counts / total.clamp_min(1)).reshape(*counts.shape, *[1] * (rows.ndim - 2))
        mine = (rows * shares).sum(0).to(averaged[name].dtype)
        merged[name] = torch.where((total > 0).reshape(-1, *[1] * (mine.ndim - 1)), mine, averaged[name])
    return merged


def with_momentum(before: Weights, averaged: Weights, velocity: Weights, momentum: float) -> tuple[Weights, Weights]:
    """FedAvgM (Hsu et al. 2019): the average's step away from `before`, kept up over rounds.

    Args:
        before: the network that was sent out.
        averaged: what the round made of it.
        velocity: of the rounds before, empty in the first.
        momentum: β; v ← β v + (averaged − before), the network moves by v. Integer buffers and running statistics
            take the average.

    Returns:
        The network and the velocity.
    """
    moved, now = dict(averaged), {}
    for name, tensor in averaged.items():
        if tensor.is_floating_point() and "running_" not in name:
            step = tensor - before[name]
            now[name] = step + momentum * velocity[name] if name in velocity else step
            moved[name] = before[name] + now[name]
    return moved, now


def average(reports: Sequence[Report], shared: Weights) -> Weights:
    """The shared network with every updated tensor replaced by the hospitals' mean, weighted by examples.

    Hospitals are summed in the order of their names, in double precision, so the result does not depend on who
    answered first. Integer buffers (batch normalisation's step counters) keep their type and take the largest value.

    Args:
        reports: answers without objection, all with the same tensors.
        shared: the network that was sent out.

    Raises:
        ValueError: the examples add up to nothing, or the answers hold different tensors.
    """
    ordered = _ordered(reports)
    total = sum(r.examples for r in ordered)
    merged = dict(shared)
    for name in sorted(ordered[0].weights):
        tensors = (r.weights[name] for r in ordered)
        first = next(tensors)
        if first.is_floating_point():
            mean = torch.zeros((), dtype=torch.float64)
            for tensor, report in zip(chain([first], tensors), ordered, strict=True):
                mean = mean + tensor.double() * (report.examples / total)
            merged[name] = mean.to(first.dtype)
        else:
            merged[name] = reduce(torch.maximum, tensors, first)
    return merged


def median(reports: Sequence[Report], shared: Weights) -> Weights:
    """The coordinate-wise median of hospitals (Yin et al. 2018); of an even number the mean of the two in the middle.

    Every hospital has one voice, whatever its examples.
    """
    return _coordinates(reports, shared, lambda count: (count - 1) // 2)


def trimmed_mean(reports: Sequence[Report], shared: Weights) -> Weights:
    """The coordinate-wise trimmed mean of hospitals (Yin et al. 2018), each with one voice.

    A fifth of them, and at least one, is left out at either end of each coordinate: as many may lie.
    """
    return _coordinates(reports, shared, lambda count: max(1, count // 5))


def _coordinates(reports: Sequence[Report], shared: Weights, cut: Callable[[int], int]) -> Weights:
    """The mean of each coordinate without the `cut` smallest and largest; of counters the lower median."""
    ordered = _ordered(reports)
    if len(ordered) < FEWEST_ROBUST:
        raise FederationError(
            f"federation-robust needs {FEWEST_ROBUST} hospitals with samples, and {len(ordered)} have any: of fewer "
            "nobody can tell which is wrong"
        )
    cut_off = cut(len(ordered))
    merged = dict(shared)
    for name in sorted(ordered[0].weights):
        values = torch.stack([r.weights[name] for r in ordered])
        if values.is_floating_point():
            inner = values.sort(0).values[cut_off : len(ordered) - cut_off]
            merged[name] = inner.double().mean(0).to(values.dtype)
        else:
            merged[name] = values.median(0).values
    return merged


def _ordered(reports: Sequence[Report]) -> list[Report]:
    """The answers that count, by hospital.

    Raises:
        ValueError: the examples add up to nothing, or the answers hold different tensors.
    """
    ordered = sorted((r for r in reports if r.examples > 0), key=lambda r: r.hospital)
    if not ordered:
        raise ValueError("no hospital trained on any example")
    if any(r.weights.keys() != ordered[0].weights.keys() for r in ordered):
        raise ValueError("the hospitals updated different tensors")
    return ordered
