"""Files to read: MedMNIST's own where BRAINCL_DATA names their folder, and small ones of the same kind."""

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from braincl_med.settings.config import DATA_VARIABLE


@pytest.fixture(scope="session")
def medmnist_folder() -> Path:
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        pytest.skip(f"{DATA_VARIABLE} is not set: no folder with MedMNIST's own files")
    return Path(named).expanduser()


@pytest.fixture(autouse=True)
def no_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """medmnist's own folder is an empty one, whatever this machine holds."""
    own = tmp_path / "medmnists-own-folder"
    own.mkdir()
    monkeypatch.setattr("medmnist.info.DEFAULT_ROOT", str(own))
    return own


class Writer(Protocol):
    def __call__(self, flag: str, **changes: Any) -> Path: ...


@pytest.fixture
def write_unofficial(tmp_path: Path) -> Writer:
    """Writes a small file that has MedMNIST's layout; `changes` replace (or with None drop) its arrays."""

    def write(flag: str, **changes: Any) -> Path:
        generator = np.random.default_rng(0)
        arrays: dict[str, Any] = {}
        for split, count in (("train", 24), ("test", 10)):
            arrays[f"{split}_images"] = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            arrays[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
        arrays |= changes
        path = tmp_path / "data-folder" / f"{flag}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, **{key: value for key, value in arrays.items() if value is not None})
        return path

    return write
