"""Networks on the wire, without loss: what the other end holds is not sent, and steps on the grid go as bytes.

    a tensor that both hold              nothing
    one that lies on the grid from it    int8 numbers and an exponent a row (`cortex.quantised`)
    any other                            itself

The other end puts the network together and compares its digest, so what is used is what was meant, bit for bit.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from torch import Tensor

from braincl_med.cortex.cortex import Weights
from braincl_med.cortex.quantised import LARGEST, along, exponents_of, is_quantised, moved_by
from braincl_med.foundation.errors import FederationError
from braincl_med.foundation.files import canonical_json

NUMBERS, EXPONENTS = "numbers.", "exponents."
LACKING = "this hospital no longer holds the network that the order was told from"
"""With this sentence a hospital asks for an order whole."""
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Coded:
    """A network as it goes.

    Attributes:
        digest: of the network.
        base: digest of the network that the other end holds and this one was coded from; empty for none.
        kept: names of the tensors that are as there.
        tensors: all others: whole under their names, or as numbers and exponents.
    """

    digest: str
    base: str
    kept: tuple[str, ...]
    tensors: Weights

    @property
    def note(self) -> str:
        """What the other end must know beside the tensors; empty where they are the network as it is."""
        if not self.base:
            return ""
        return _Note(digest=self.digest, base=self.base, kept=self.kept).model_dump_json()


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors with their names, types and shapes; empty for no tensors."""
    if not weights:
        return ""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().contiguous()
        digest.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]))
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


def coded(weights: Mapping[str, Tensor], base: Weights, stepped: bool) -> Coded:
    """A network for an end that holds `base`.

    Args:
        weights: the network.
        base: what the other end holds; empty for nothing.
        stepped: whether tensors that moved may lie on the grid, which is looked for then.
    """
    if not base:
        return Coded("", "", (), dict(weights))
    kept, tensors = [], {}
    for name, tensor in weights.items():
        before = base.get(name)
        if before is None or before.shape != tensor.shape or before.dtype != tensor.dtype:
            tensors[name] = tensor
        elif torch.equal(before, tensor):
            kept.append(name)
        elif stepped and is_quantised(name, tensor) and (step := _step(tensor, before)) is not None:
            tensors[NUMBERS + name], tensors[EXPONENTS + name] = step
        else:
            tensors[name] = tensor
    return Coded(digest_of(weights), digest_of(base), tuple(kept), tensors)


def decoded(tensors: Weights, digest: str, kept: tuple[str, ...], base: Weights) -> Weights:
    """The network that was coded, as `coded` got it.

    Args:
        tensors: what came.
        digest: what the network's is said to be.
        kept: names of the tensors that are as in `base`.
        base: what this end holds.

    Raises:
        FederationError: it is not the network that was coded.
    """
    weights: Weights = {}
    try:
        for name in kept:
            weights[name] = base[name]
        for name, tensor in tensors.items():
            if name.startswith(NUMBERS):
                plain = name.removeprefix(NUMBERS)
                weights[plain] = _stepped(tensor, tensors[EXPONENTS + plain], base[plain])
            elif not name.startswith(EXPONENTS):
                weights[name] = tensor
    except KeyError as error:
        raise FederationError(f"a network came without what it is told from: {error.args[0]!r}") from None
    if digest_of(weights) != digest:
        raise FederationError("a network came otherwise than it was sent: its digest is another")
    return weights


def _step(tensor: Tensor, before: Tensor) -> tuple[Tensor, Tensor] | None:
    """Numbers and exponents that lead from `before` to `tensor` exactly; None where none do."""
    step = tensor.double() - before.double()
    # The sum was rounded to single precision, which may have taken the largest number a little beyond its place.
    exponents = exponents_of(step, LARGEST + 0.25)
    numbers = torch.ldexp(step, -along(exponents, step)).round().clamp(-LARGEST, LARGEST)
    return (numbers.to(torch.int8), exponents) if torch.equal(moved_by(numbers, exponents, before), tensor) else None


def _stepped(numbers: Tensor, exponents: Tensor, before: Tensor) -> Tensor:
    """The inverse of `_step`.

    Raises:
        FederationError: these are no steps of such a tensor.
    """
    rows = (before.shape[0],) if before.ndim else ()
    if (numbers.dtype, exponents.dtype) != (torch.int8, torch.int16) or before.dtype != torch.float32:
        raise FederationError("steps of a network came in another type than int8 and int16")
    if before.ndim < 2 or numbers.shape != before.shape or exponents.shape != rows:
        raise FederationError("steps of a network came in another shape than its tensors have")
    return moved_by(numbers, exponents, before)


def received(tensors: Weights, note: str, held: Callable[[str], Weights | None]) -> Weights:
    """The network of a message.

    Args:
        tensors: that came.
        note: that came beside them, of `Coded`; empty where they are the network as it is.
        held: the network of a digest, where this end holds it.

    Raises:
        FederationError: the note is none, this end does not hold what it tells from (`LACKING`), or as `decoded`.
    """
    if not note:
        return tensors
    try:
        told = _Note.model_validate_json(note)
    except ValidationError as error:
        raise FederationError(f"how a network was coded cannot be read ({error.errors()[0]['type']})") from None
    base = held(told.base)
    if base is None:
        raise FederationError(LACKING)
    return decoded(tensors, told.digest, told.kept, base)


class _Note(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    digest: Digest
    base: Digest
    kept: tuple[str, ...] = Field(max_length=10_000)


def size_of_tensors(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
