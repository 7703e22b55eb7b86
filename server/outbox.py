"""How an order's network goes to each node: whole, or told from the one that the node says it holds."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from flwr.app import Array, ArrayRecord

from braincl_med.cortex.cortex import Weights
from braincl_med.messages.compact import Coded, coded, digest_of
from braincl_med.messages.tensors import in_one_piece


@dataclass
class Outbox:
    """What was sent last, and who holds it; after a restart nobody is known to hold anything.

    Attributes:
        stepped: networks move on the grid of `cortex.quantised`.
        last: the network that was sent last, and its digest.
        holds: by node, the digest of the network that it said it holds.
    """

    stepped: bool
    last: tuple[Weights, str] = field(default_factory=lambda: ({}, ""))
    holds: dict[int, str] = field(default_factory=dict)

    def packed(self, weights: Weights, nodes: Iterable[int]) -> dict[int, tuple[Coded, ArrayRecord]]:
        """A network for each node, coded once for all that it is coded alike for."""
        known, digest = self.last
        near = [node for node in nodes if weights and digest and self.holds.get(node) == digest]
        packed: dict[int, tuple[Coded, ArrayRecord]] = {}
        for base, group in ((known, near), ({}, [node for node in nodes if node not in near])):
            if group:
                one = coded(weights, base, self.stepped)
                packed |= dict.fromkeys(group, (one, ArrayRecord(in_one_piece(one.tensors, Array))))
        return packed

    def sent(self, weights: Weights) -> None:
        """From now on nodes may hold this network."""
        if weights:
            self.last = (weights, digest_of(weights))
