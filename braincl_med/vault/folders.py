"""Which folders are whose: a hospital's vault holds one folder an experiment."""

import os
import re
from pathlib import Path

from braincl_med.foundation.errors import VaultError

MANIFEST = "manifest.json"
CUE_NAME = re.compile(r"^task-\d{3,5}\.(working|long-term)\.[0-9a-f]{8}\.cue\Z")


def is_experiment(folder: Path) -> bool:
    """Whether a folder is one experiment's: it has a manifest, or has lost it and holds cue files."""
    return (folder / MANIFEST).exists() or any(CUE_NAME.match(p.name) for p in folder.iterdir())


def experiments(folder: Path) -> list[Path]:
    """The experiments' folders of a vault: `folder` itself, or those in it.

    Raises:
        VaultError: there is no such folder, it cannot be read, or it holds no memories.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise VaultError(f"there is no folder '{folder.name}': give a hospital's vault or one experiment's folder")
    try:
        if is_experiment(folder):
            return [folder]
        inside = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.is_symlink() and is_experiment(p)]
    except OSError as error:
        raise VaultError(f"'{folder.name}' cannot be read: {os.strerror(error.errno or 0).lower()}") from error
    if not inside:
        raise VaultError(
            f"'{folder.name}' holds no experiment's memories: give a hospital's vault or one experiment's folder"
        )
    return inside
