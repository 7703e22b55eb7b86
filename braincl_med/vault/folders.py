"""Which folders are whose: a hospital's vault holds one folder an experiment."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import PARTIAL_SUFFIX, make_private, narrow, storage_error

MANIFEST = "manifest.json"
CUE_NAME = re.compile(r"^task-\d{3,5}\.(working|long-term)\.[0-9a-f]{8}\.cue\Z")
NETWORK_NAME = re.compile(r"^task-\d{3,5}\.(working|long-term)\.[0-9a-f]{8}\.net\Z")
"""A completion network that is sealed under a key of its own."""


def file_name(task: int, memory: str, digest: str, suffix: str) -> str:
    """The name of a file of a task; it carries the content's digest, so that none is written over by another.

    >>> file_name(3, "working", "60303ae22b998861", "cue")
    'task-003.working.60303ae2.cue'
    """
    return f"task-{task:03d}.{memory}.{digest[:8]}.{suffix}"


def is_remains(name: str, committed: Collection[str]) -> bool:
    """Whether a file is left over from an interrupted write, or no longer counts."""
    named = CUE_NAME.match(name) or NETWORK_NAME.match(name)
    return name.endswith(PARTIAL_SUFFIX) or (named is not None and name not in committed)


def make_experiment(folder: Path) -> None:
    """Make an experiment's folder, and the hospital's above it if that is missing, for their owner alone.

    The experiment's is narrowed if it is wider. Whoever knows that the one above is a hospital's narrows that.

    Raises:
        VaultError: they cannot be made.
    """
    try:
        make_private(folder.parent)
        make_private(folder)
        narrow(folder)
    except OSError as error:
        raise storage_error(folder, 0, error) from error


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
