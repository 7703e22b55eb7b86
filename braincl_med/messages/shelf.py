"""Tensors of many answers, of which a few at a time are in memory: the others lie in a file without a name.

The file belongs to one exchange and is gone when nobody refers to an answer any more, also after a kill.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import storage_error
from braincl_med.foundation.places import server_folder
from braincl_med.settings.config import ExperimentConfig

Place = tuple[int, torch.dtype, torch.Size]


class Shelved(Mapping[str, Tensor]):
    """Tensors by name, each read from the file whenever it is asked for."""

    def __init__(self, file: IO[bytes], places: Mapping[str, Place]) -> None:
        self._file, self._places = file, places

    def __getitem__(self, name: str) -> Tensor:
        start, kind, shape = self._places[name]
        if not (size := shape.numel() * kind.itemsize):
            return torch.empty(shape, dtype=kind)
        held = bytearray(size)
        if os.preadv(self._file.fileno(), [held], start) != size:
            raise VaultError("what hospitals answered cannot be read back from the server's disk")
        return torch.frombuffer(held, dtype=kind).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Shelf:
    """Where an exchange puts the tensors of answers as they arrive.

    Args:
        folder: on the disk that they lie on; made with the first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._end = 0

    @staticmethod
    def of(config: ExperimentConfig) -> "Shelf":
        """One beside the server's checkpoint of an experiment."""
        return Shelf(server_folder(config.state_folder, config.name))

    def put(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The same tensors, from the file.

        Raises:
            VaultError: they cannot be written.
        """
        if not weights:
            return {}
        try:
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (answers outlive this call)
            return Shelved(self._file, {name: self._write(self._file, tensor) for name, tensor in weights.items()})
        except OSError as error:
            raise storage_error(self._folder / "answers", self._end, error) from error

    def _write(self, file: IO[bytes], tensor: Tensor) -> Place:
        start, flat = self._end, tensor.detach().contiguous().reshape(-1)
        left = memoryview(flat.view(torch.uint8).numpy().data) if flat.numel() else memoryview(b"")
        while left:
            written = os.pwrite(file.fileno(), left, self._end)
            left, self._end = left[written:], self._end + written
        return start, tensor.dtype, tensor.shape
