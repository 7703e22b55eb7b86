"""Tensors on the wire: all of a message in one piece, read without believing what is said of their sizes.

Flower carries each array as an object of its own, and a SuperLink writes each into its database in a transaction of
its own: one piece is a handful of these, the 122 tensors of a ResNet-18 were hundreds.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from braincl_med.cortex.cortex import Weights
from braincl_med.foundation.errors import FederationError

A = TypeVar("A")
PIECE, KIND = "tensors", "safetensors"
"""The name of the one array, and how its bytes are to be read."""
MOST_TENSORS = 10_000
MOST_BYTES = 1 << 32
"""Of one message's tensors; a ResNet-152 has 2^28."""


class Held(Protocol):
    """Bytes, as Flower's `Array` holds them."""

    data: bytes


def in_one_piece(
    tensors: Mapping[str, Tensor], array: Callable[[str, tuple[int, ...], str, bytes], A]
) -> dict[str, A]:
    """The arrays of a record of tensors, as `tensors_of` reads them: one, in the format of safetensors, or none.

    Args:
        tensors: of a message.
        array: Flower's `Array`, of which this room knows nothing: of a type, a shape, a kind and bytes.
    """
    if not tensors:
        return {}
    piece = save({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()})
    return {PIECE: array("uint8", (len(piece),), KIND, piece)}


def tensors_of(record: Mapping[str, Held]) -> Weights:
    """The tensors of a record that holds one piece of them, or nothing.

    Raises:
        FederationError: it holds something else, or too many or too large ones; nothing is allocated for them.
    """
    if not record:
        return {}
    if set(record) != {PIECE} or not isinstance(data := getattr(record[PIECE], "data", None), bytes):
        raise FederationError(f"it holds other arrays than the one piece '{PIECE}'")
    if len(data) > MOST_BYTES:
        raise FederationError(f"its tensors have {len(data):,} bytes, at most {MOST_BYTES:,} are read")
    try:
        tensors: Weights = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, OverflowError, TypeError) as error:
        raise FederationError(f"its tensors cannot be read ({type(error).__name__})") from None
    if len(tensors) > MOST_TENSORS:
        raise FederationError(f"it holds {len(tensors):,} tensors, at most {MOST_TENSORS:,} are read")
    return tensors
