"""Hospitals of the protocol alone: keys, a vector each, and what a server would hold."""

import numpy as np

from braincl_med.masking.agreement import new_private, public_of
from braincl_med.masking.protocol import Party, mask, reveal

CONTEXT = bytes(range(32))


class Round:
    """One sum over `count` hospitals, of which `late` hand in nothing."""

    def __init__(self, count, threshold, late=(), size=4096, context=CONTEXT):
        self.names = [f"site-{n}" for n in range(count)]
        private = {name: new_private() for name in self.names}
        publics = {name: public_of(private[name]) for name in self.names}
        self.parties = {name: Party(name, private[name], publics, threshold, context) for name in self.names}
        self.threshold, self.context = threshold, context
        self.dropped = sorted(late)
        self.alive = [name for name in self.names if name not in late]
        rng = np.random.default_rng(0)
        self.plain, self.masked, self.sealed = {}, {}, {}
        for name in self.alive:
            small = rng.integers(-3, 4, size)
            vectors = {32: small.astype(np.uint32), 64: small[: size // 4].astype(np.uint64)}
            self.plain[name] = {bits: vector.copy() for bits, vector in vectors.items()}
            self.sealed[name] = mask(self.parties[name], vectors)
            self.masked[name] = vectors

    def boxes(self, receiver):
        return {name: self.sealed[name].boxes[receiver] for name in self.alive}

    def told(self, survivors):
        return {name: reveal(self.parties[name], self.alive, self.dropped, self.boxes(name)) for name in survivors}

    def total(self, kind="masked"):
        vectors = list(getattr(self, kind).values())
        return {bits: sum((v[bits] for v in vectors), np.zeros_like(vectors[0][bits])) for bits in vectors[0]}

    @property
    def digests(self):
        return {name: sealed.digests for name, sealed in self.sealed.items()}
