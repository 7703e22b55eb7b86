"""Arrays of bytes in NumPy's archives (.npz), read block by block: memory for what is asked alone."""

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from braincl_med.foundation.errors import BrainclError, DataError

Bytes = npt.NDArray[np.uint8]

BLOCK = 1 << 24
"""Bytes that are decompressed at a time: sets of 224 px do not fit into memory whole."""


class Header(NamedTuple):
    """What an array says of itself.

    Attributes:
        columns_first: Fortran's order of elements, which `rows` and `blocks` do not read.
    """

    shape: tuple[int, ...]
    kind: np.dtype[Any]
    columns_first: bool


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive at `path`; all that it can do wrong until it is closed becomes one sentence.

    Raises:
        DataError: it cannot be read, is packed in a way that is not read, or is damaged.
    """
    with complaining(path.name), zipfile.ZipFile(path) as archive:
        yield archive


@contextlib.contextmanager
def complaining(name: str) -> Iterator[None]:
    """Turn all that a file can do wrong into one sentence without its folder."""
    try:
        yield
    except BrainclError:
        raise
    except MemoryError:
        raise DataError(f"'{name}' needs more memory than there is: ask for fewer or smaller scans") from None
    except Exception as error:  # what parsers of archives, headers and streams raise is beyond counting
        raise DataError(f"'{name}' {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {os.strerror(error.errno).lower()}; give a file that this user may read"
    if isinstance(error, RuntimeError) and not isinstance(error, RecursionError):
        # zipfile's word for encryption and for compression that it does not know; a damaged byte may say the same.
        return (
            "is packed in a way that is not read, or damaged: save its arrays with numpy.savez_compressed, or fetch "
            "it again"
        )
    return "cannot be read: it is damaged; delete it and fetch it again"


def header(archive: zipfile.ZipFile, key: str) -> Header:
    """What the array `key` says of itself."""
    with archive.open(f"{key}.npy") as member:
        return _header(member)


def _header(member: IO[bytes]) -> Header:
    """The header of a member, which is left at its first element. Pickled objects are never loaded."""
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        shape, columns_first, kind = np.lib.format.read_array_header_1_0(member)
    elif version in ((2, 0), (3, 0)):
        shape, columns_first, kind = np.lib.format.read_array_header_2_0(member)
    else:
        raise NotImplementedError("a version of npy that came later")
    return Header(shape, kind, columns_first)


def blocks(archive: zipfile.ZipFile, key: str) -> Iterator[tuple[int, Bytes]]:
    """A uint8 array's rows: the number of a block's first row, and the block; the whole passes by, CRC and all."""
    with archive.open(f"{key}.npy") as member:
        shape = _header(member).shape
        # Before any memory is taken: a damaged header may promise more than there is.
        if member.tell() + math.prod(shape) != archive.getinfo(f"{key}.npy").file_size:
            raise ValueError("another number of elements than the shape says")
        width = math.prod(shape[1:])
        step = max(1, BLOCK // max(1, width))
        for start in range(0, shape[0], step):
            stop = min(shape[0], start + step)
            content = member.read((stop - start) * width)
            yield start, np.frombuffer(content, np.uint8).reshape(stop - start, *shape[1:])


def rows(archive: zipfile.ZipFile, key: str, wanted: npt.NDArray[np.int64]) -> Bytes:
    """The `wanted` rows of a uint8 array, in their order."""
    order = np.argsort(wanted, kind="stable")
    ahead = wanted[order]
    found = np.empty((len(wanted), *header(archive, key).shape[1:]), np.uint8)
    for start, block in blocks(archive, key):
        first, last = np.searchsorted(ahead, [start, start + len(block)])
        found[order[first:last]] = block[ahead[first:last] - start]
    return found
