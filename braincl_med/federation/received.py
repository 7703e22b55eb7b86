"""Whether what a server sends with an order is what its phase needs, looked at before a hospital computes."""

import torch

from braincl_med.cortex.cortex import Cortex, Weights, apart
from braincl_med.cortex.gaussians import MOMENTS, impossible_moments, no_moments
from braincl_med.messages.order import Order
from braincl_med.messages.update import impossible_statistics, objection
from braincl_med.methods.base import Method, grow
from braincl_med.methods.phase import BEFORE, Need, Phase
from braincl_med.settings.config import CortexConfig


def objection_to_order(order: Order, phase: Phase, method: Method, cortex: CortexConfig) -> str | None:
    """Why the tensors of an order cannot be used, or None.

    A network must have the tensors, shapes and types that the hospital's own configuration gives it for the classes
    known by then; of a method whose network is not one cortex only the numbers are looked at.
    """
    sent, before = apart(order.weights, BEFORE)
    shared, told = apart(sent, MOMENTS)
    if phase.need is Need.NOTHING:
        return f"{phase.name} needs no tensors, and came with {len(order.weights)}" if order.weights else None
    classes = order.registry.seen(order.task)
    expected = shared if method.grow is not grow else _cortex(classes, cortex)
    if reason := objection(shared, expected) or impossible_statistics(shared):
        return reason
    if before and (reason := _objection_to_former(order, before, phase, method, cortex)):
        return reason
    if not told:
        return None
    if phase.need not in (Need.NETWORK_AND_MOMENTS, Need.TWO_NETWORKS):
        return f"{phase.name} needs no moments, and came with some"
    classifier = {"classifier.weight": torch.zeros(shared["classifier.weight"].shape)}
    return objection(told, no_moments(classifier)) or impossible_moments(told)


def _objection_to_former(
    order: Order, before: Weights, phase: Phase, method: Method, cortex: CortexConfig
) -> str | None:
    if phase.need is not Need.TWO_NETWORKS or not order.task:
        return f"{phase.name} of task {order.task} needs no former network, and came with one"
    network = {name.removeprefix(BEFORE): tensor for name, tensor in before.items()}
    expected = network if method.grow is not grow else _cortex(order.registry.seen(order.task - 1), cortex)
    return objection(network, expected) or impossible_statistics(network)


def _cortex(classes: int, config: CortexConfig) -> Weights:
    """The tensors of a cortex, without memory for their values."""
    with torch.device("meta"):
        return Cortex(classes, config).state_dict()
