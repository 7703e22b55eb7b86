"""What a hospital remembers of its federation, as an audit accounts for it: each file by its own strict reader."""

from collections.abc import Callable
from pathlib import Path

from braincl_med.federation.held import NAME as NETWORK
from braincl_med.federation.held import read_held
from braincl_med.federation.masks import IDENTITY, LEDGER
from braincl_med.federation.seen import NAME, read_seen
from braincl_med.foundation.errors import BrainclError
from braincl_med.foundation.files import LOCK_NAME
from braincl_med.masking.identity import own_identity, pinned
from braincl_med.masking.ledger import read_ledger
from braincl_med.privacy.accounting import LOCK_CONTENT, Accounted, Place

READERS: dict[str, Callable[[Path], object]] = {
    IDENTITY: lambda path: own_identity(path, ""),
    f"{IDENTITY}.pub": pinned,
}
EXPERIMENTS: dict[str, Callable[[Path], object]] = {
    NAME: lambda path: read_seen(path.parent),
    LEDGER: read_ledger,
    NETWORK: read_held,
    LOCK_NAME: lambda path: _lock(path),
}


def remembered(folder: Path, place: Place) -> Accounted:
    """What lies in a hospital's folder of its federation.

    Args:
        folder: that folder.
        place: how the audit calls a file.
    """
    own, problems, unknown = 0, [], []
    for path in sorted(folder.rglob("*")):
        depth = len(path.relative_to(folder).parts)
        if path.is_dir() and not path.is_symlink() and depth == 1:
            continue
        reader = {1: READERS, 2: EXPERIMENTS}.get(depth, {}).get(path.name)
        try:
            if reader is None or not path.is_file() or path.is_symlink():
                raise ValueError("does not belong to what a hospital remembers of its federation")
            reader(path)
            own += 1
        except (BrainclError, ValueError, OSError) as error:
            problems.append(
                f"{place(path)}: {error}" if isinstance(error, BrainclError) else f"{place(path)} {error}"
            )
            if path.is_file() and not path.is_symlink():
                unknown.append(path)
    return Accounted(own, tuple(problems), tuple(unknown))


def _lock(path: Path) -> None:
    if not LOCK_CONTENT.fullmatch(path.read_bytes()):
        raise ValueError("holds something else than the number of a process")
