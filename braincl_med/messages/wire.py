"""What crosses the wire: one record of tensors and one of text, and nothing else, in either direction."""

from collections.abc import Mapping
from typing import Any

from braincl_med.cortex.cortex import Weights
from braincl_med.foundation.errors import FederationError
from braincl_med.messages.tensors import tensors_of

TENSORS, TEXT = "weights", "json"
"""The record of tensors, and the one field of the record of text."""


def opened(content: Mapping[str, Any], name: str) -> tuple[str, Weights]:
    """The text and the tensors of a message.

    Args:
        content: its records by name, as Flower holds them.
        name: of the record of text: `order` or `report`.

    Raises:
        FederationError: it holds other records or fields, or tensors that are none or beyond their limits. Those of
            the text are its reader's (`Order.parse`, `Report.parse`).
    """
    if set(content) != {TENSORS, name}:
        raise FederationError(f"it holds other records than '{TENSORS}' and '{name}'")
    said = content[name]
    if set(said) != {TEXT} or not isinstance(said[TEXT], str):
        raise FederationError(f"its '{name}' is not one text")
    return said[TEXT], tensors_of(content[TENSORS])
