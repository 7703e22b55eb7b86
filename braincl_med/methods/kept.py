"""What a method to compare with keeps at a hospital between tasks: exemplars, importances, generators.

    <vault>/kept/<item>-<task>.kept      format and version, SHA-256 of the rest, tensors as safetensors writes them

Such files were called `.safetensors` before, though no reader of that format opens them; they are still read, counted
and deleted, and what is kept anew replaces them.

BrainCL keeps nothing here. The folder lies inside the vault on purpose: an audit of a hospital that ran a method
which keeps raw scans reports it.
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import sha256_of, storage_error, write_whole
from braincl_med.vault.folders import make_experiment

FORMAT = b"BCLKEPT\x01"
"""Magic and version; then the SHA-256 of the rest."""
SUFFIX, FORMER_SUFFIX = ".kept", ".safetensors"
Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Kept:
    """The folder of one hospital and experiment.

    Attributes:
        folder: made when first written to.
    """

    folder: Path

    def save(self, item: str, task: int, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Keep `arrays` as the `item` of `task`, in place of what was kept as such before.

        Raises:
            VaultError: the disk is full or the folder cannot be written.
        """
        content = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
        path, former = self._paths(item, task)
        make_experiment(self.folder.parent)
        make_experiment(self.folder)
        write_whole(path, FORMAT + bytes.fromhex(sha256_of(content)) + content)
        _delete(former)

    def load(self, item: str, task: int) -> Arrays | None:
        """What is kept as the `item` of `task`, None when there is nothing.

        Raises:
            VaultError: the file is damaged, of another version, or cannot be read.
        """
        path = next((p for p in self._paths(item, task) if p.exists()), None)
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError as error:
            raise VaultError(f"'{path.name}' cannot be read: {os.strerror(error.errno or 0).lower()}") from error
        if content[: len(FORMAT)] != FORMAT:
            raise VaultError(f"'{path.name}' is not a file of version 1 of what a method keeps")
        digest, tensors = content[len(FORMAT) : len(FORMAT) + 32], content[len(FORMAT) + 32 :]
        if bytes.fromhex(sha256_of(tensors)) != digest:
            raise VaultError(f"'{path.name}' was changed or damaged: its checksum does not match")
        try:
            arrays: Arrays = load(tensors)
        except (SafetensorError, struct.error) as error:
            raise VaultError(f"'{path.name}' does not hold tensors: {type(error).__name__}") from None
        return arrays

    def forget(self, item: str, task: int) -> None:
        """Delete what is kept as the `item` of `task`, if there is anything.

        Raises:
            VaultError: the folder cannot be written.
        """
        # The former first: were it alone left, it would be taken for what is kept.
        for path in reversed(self._paths(item, task)):
            _delete(path)

    def tasks(self, item: str) -> list[int]:
        """The tasks of which an `item` is kept, in order."""
        return sorted({int(path.stem.rpartition("-")[2]) for path in self._files(f"{item}-*")})

    def sizes(self) -> dict[str, int]:
        """Bytes at rest by item."""
        total: dict[str, int] = {}
        for path in self._files("*"):
            item = path.stem.rpartition("-")[0]
            total[item] = total.get(item, 0) + path.stat().st_size
        return total

    def _paths(self, item: str, task: int) -> tuple[Path, Path]:
        """Where it is kept, and where it was under the former suffix."""
        return self.folder / f"{item}-{task}{SUFFIX}", self.folder / f"{item}-{task}{FORMER_SUFFIX}"

    def _files(self, pattern: str) -> list[Path]:
        return sorted(path for suffix in (SUFFIX, FORMER_SUFFIX) for path in self.folder.glob(pattern + suffix))


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, 0, error) from error
