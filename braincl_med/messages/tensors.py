"""Tensors that crossed the wire, read without believing what is said of their sizes."""

import io
import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch

from braincl_med.cortex.cortex import Weights
from braincl_med.foundation.errors import FederationError

MOST_TENSORS = 10_000
LONGEST_NAME = 200
MOST_BYTES = 1 << 32
"""Of one message's tensors; a ResNet-152 has 2^28."""


class Held(Protocol):
    """A NumPy array file, as Flower's `Array` holds one."""

    data: bytes


def tensors_of(record: Mapping[str, Held]) -> Weights:
    """The tensors of a record, each a NumPy array file that holds as many bytes as its header promises.

    Raises:
        FederationError: one is none, or they are too many or too large; nothing is allocated for it.
    """
    if len(record) > MOST_TENSORS:
        raise FederationError(f"it holds {len(record):,} tensors, at most {MOST_TENSORS:,} are read")
    if not all(isinstance(getattr(array, "data", None), bytes) for array in record.values()):
        raise FederationError("its tensors are none")
    if (size := sum(len(array.data) for array in record.values())) > MOST_BYTES:
        raise FederationError(f"its tensors have {size:,} bytes, at most {MOST_BYTES:,} are read")
    tensors = {}
    for name, array in record.items():
        try:
            file = io.BytesIO(array.data)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, kind = read[np.lib.format.read_magic(file)](file)
            if kind.hasobject or math.prod(shape) * kind.itemsize != len(array.data) - file.tell():
                raise ValueError("another size than its header promises")
            values = np.frombuffer(array.data, kind, offset=file.tell())
            tensors[name] = torch.from_numpy(values.reshape(shape, order="F" if fortran else "C").copy(order="C"))
        except Exception as error:  # a crafted header makes NumPy's parser raise whatever it likes
            raise FederationError(
                f"its tensor '{name[:LONGEST_NAME]}' cannot be read ({type(error).__name__})"
            ) from None
    return tensors
