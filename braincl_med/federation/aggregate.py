"""Federated averaging of hospitals' updates (McMahan et al. 2017), and its variants."""

from collections.abc import Sequence
from typing import Protocol

import torch

from braincl_med.cortex.cortex import Weights
from braincl_med.messages.report import Report
from braincl_med.settings.config import FederationConfig


class Join(Protocol):
    """What makes one network of the answers of a round."""

    def __call__(self, reports: Sequence[Report], shared: Weights) -> Weights:
        """The shared network with every updated tensor replaced.

        Args:
            reports: answers without objection, all with the same tensors.
            shared: the network that was sent out.

        Raises:
            ValueError: the examples add up to nothing.
        """


def join_of(config: FederationConfig) -> Join:
    """How a configuration joins updates."""
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
    ordered = sorted((r for r in reports if r.examples > 0), key=lambda r: r.hospital)
    total = sum(r.examples for r in ordered)
    if not total:
        raise ValueError("no hospital trained on any example")
    names = set(ordered[0].weights)
    if any(set(r.weights) != names for r in ordered):
        raise ValueError("the hospitals updated different tensors")
    merged = dict(shared)
    for name in sorted(names):
        tensors = [r.weights[name] for r in ordered]
        if tensors[0].is_floating_point():
            mean = sum(
                (t.double() * (r.examples / total) for t, r in zip(tensors, ordered, strict=True)),
                start=torch.zeros((), dtype=torch.float64),
            )
            merged[name] = mean.to(tensors[0].dtype)
        else:
            merged[name] = torch.stack(tensors).amax(0)
    return merged
