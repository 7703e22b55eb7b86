"""Whether a joined network may take the place of the last one: no hospital could go on from one that is broken."""

import torch

from braincl_med.cortex.cortex import Weights, apart
from braincl_med.dp.statistics import STATISTICS
from braincl_med.federation.seen import GROWTH, LARGEST, norm_of
from braincl_med.foundation.errors import FederationError
from braincl_med.messages.order import Order


def require_sound(order: Order, joined: Weights) -> None:
    """Refuse to save a joined network that hospitals would refuse, so that the last good one stays.

    Args:
        order: that it was made by; holds the network before.
        joined: the network, and what lies beside it.

    Raises:
        FederationError: it holds numbers that are not finite, or its norm is beyond what hospitals take next
            (`federation.seen`).
    """
    for name, tensor in joined.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise FederationError(f"{order}: joined, '{name}' holds numbers that are not finite; nothing was saved")
    network, _ = apart(joined, STATISTICS)
    norm, before = norm_of(network), norm_of(order.weights)
    most = min(LARGEST, GROWTH * before) if before else LARGEST
    if norm > most:
        raise FederationError(
            f"{order}: joined, the network has norm {norm:.3g}, hospitals take at most {most:.3g}; nothing was "
            "saved: lower the learning rate, or see whose update is wrong"
        )
