"""What crosses the wire: one record of tensors and one of text, and nothing else, in either direction."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from braincl_med.cortex.cortex import Weights
from braincl_med.foundation.errors import FederationError
from braincl_med.messages.compact import Coded, received, size_of_tensors
from braincl_med.messages.tensors import tensors_of

TENSORS, TEXT, NOTE, HOLDS = "weights", "json", "coded", "holds"
"""The record of tensors, and the fields of the record of text; what is empty is left out."""
LONGEST_NOTE = 1 << 20


def size_of_texts(said: Mapping[str, str]) -> int:
    """Bytes of the fields of text."""
    return sum(len(one.encode()) for one in said.values())


@dataclass(frozen=True)
class Opened:
    """A message.

    Attributes:
        text: of the order or report.
        weights: the network that came, whole.
        holds: digest of the network that its sender holds; empty for none.
        size: bytes of tensors and texts that came.
    """

    text: str
    weights: Weights
    holds: str
    size: int


def told(text: str, coded: Coded, holds: str = "") -> dict[str, str]:
    """The fields of a message's record of text, as `opened` reads them."""
    fields = {TEXT: text, NOTE: coded.note, HOLDS: holds}
    return {field: said for field, said in fields.items() if said or field == TEXT}


def opened(content: Mapping[str, Any], name: str, held: Callable[[str], Weights | None]) -> Opened:
    """A message as it was meant.

    Args:
        content: its records by name, as Flower holds them.
        name: of the record of text: `order` or `report`.
        held: the network of a digest, where this end holds it.

    Raises:
        FederationError: it holds other records or fields, tensors that are none or beyond their limits, or as
            `received`. Those of the text are its reader's (`Order.parse`, `Report.parse`).
    """
    if set(content) != {TENSORS, name}:
        raise FederationError(f"it holds other records than '{TENSORS}' and '{name}'")
    said = content[name]
    if not {TEXT} <= set(said) <= {TEXT, NOTE, HOLDS} or not all(isinstance(one, str) for one in said.values()):
        raise FederationError(f"its '{name}' is not one text")
    note, holds = said.get(NOTE, ""), said.get(HOLDS, "")
    if len(note) + len(holds) > LONGEST_NOTE:
        raise FederationError(f"what it says of networks has {len(note) + len(holds):,} characters, too many to read")
    tensors = tensors_of(content[TENSORS])
    size = size_of_tensors(tensors) + size_of_texts(said)
    return Opened(said[TEXT], received(tensors, note, held), holds, size)
