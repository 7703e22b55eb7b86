"""What a method to compare with keeps at a hospital between tasks: exemplars, importances, generators.

    <vault>/kept/<item>-<task>.safetensors      format, version and SHA-256 of the tensors in the header

BrainCL keeps nothing here. The folder lies inside the vault on purpose: an audit of a hospital that ran a method
which keeps raw scans reports it.
"""

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

FORMAT = b"BCLKEPT\x01"
"""Magic and version; then the SHA-256 of the rest."""
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
        write_whole(self._path(item, task), FORMAT + bytes.fromhex(sha256_of(content)) + content)

    def load(self, item: str, task: int) -> Arrays | None:
        """What is kept as the `item` of `task`, None when there is nothing.

        Raises:
            VaultError: the file is damaged or of another version.
        """
        path = self._path(item, task)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
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
        path = self._path(item, task)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(path, 0, error) from error

    def tasks(self, item: str) -> list[int]:
        """The tasks of which an `item` is kept, in order."""
        return sorted(int(path.stem.rpartition("-")[2]) for path in self.folder.glob(f"{item}-*.safetensors"))

    def sizes(self) -> dict[str, int]:
        """Bytes at rest by item."""
        total: dict[str, int] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            item = path.stem.rpartition("-")[0]
            total[item] = total.get(item, 0) + path.stat().st_size
        return total

    def _path(self, item: str, task: int) -> Path:
        return self.folder / f"{item}-{task}.safetensors"
