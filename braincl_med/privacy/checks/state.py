"""What lies below a state root beside hospitals' vaults: the server's own, or somebody's that must be named.

runs.sqlite            the run store
server/<experiment>/   checkpoint, network, moments, members, lock, last sign of life; and `former` ones
logs/                  the server's lines, and Flower's
site-*/                hospitals' vaults, which are audited by themselves
.scans/                notes on scans that simulated hospitals share
"""

import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from braincl_med.privacy.accounting import suspects
from braincl_med.privacy.checks.attached import attached
from braincl_med.privacy.checks.identifiers import Identifiers
from braincl_med.privacy.search import Probes, shown
from braincl_med.records.database import STORE_NAME
from braincl_med.streams.place import NOTES

OWN = re.compile(
    rf"{re.escape(STORE_NAME)}(-journal|-wal|-shm)?"
    r"|server/[^/]+/(checkpoint\.json|alive\.json|members\.json|\.lock|former/\d{4}-\d{4}\.json)"
    r"|server/[^/]+/(former/)?(weights|moments)-[0-9a-f]{12}\.safetensors"
    r"|logs/[^/]+\.log(\.\d)?"
)
FLOWERS_LOG = ".flower.log"
STRANGERS_CHECK = "Nothing but a run's records lies below the state root"
MODES_CHECK = "Nobody but its owner may read the records"
ATTACHED_CHECK = "Nothing is attached to the records"
IDENTIFIERS_CHECK = "No identifier stands in records and logs"
SCANS_CHECK = "No raw scan lies below the state root"


def state_problems(state: Path, identifiers: Identifiers, probes: Probes | None) -> dict[str, list[str]]:
    """What is wrong below a state root, check by check; hospitals' vaults are left out.

    Args:
        state: the state root.
        identifiers: that must stand in no record.
        probes: of scans that must lie nowhere, if there are any.
    """
    problems: dict[str, list[str]] = {
        check: [] for check in (STRANGERS_CHECK, MODES_CHECK, ATTACHED_CHECK, IDENTIFIERS_CHECK, SCANS_CHECK)
    }

    def place(path: Path) -> str:
        return shown(path.relative_to(state).as_posix())

    unknown = []
    for path in _files(state, place, problems[STRANGERS_CHECK].append):
        name = path.relative_to(state).as_posix()
        if not OWN.fullmatch(name):
            problems[STRANGERS_CHECK].append(f"{place(path)} does not belong below a state root")
            unknown.append(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o177:
            problems[MODES_CHECK].append(f"{place(path)} has mode {mode:04o}, expected 0600")
        problems[ATTACHED_CHECK] += attached(path, place)
        content = path.read_bytes()
        # Flower tells where its own files lie; ours never tell a path.
        told = identifiers.findings(content, paths=FLOWERS_LOG not in name)
        problems[IDENTIFIERS_CHECK] += [f"{place(path)} {what}" for what in told]
        found = probes.find(content) if probes is not None else {}
        if found:
            problems[SCANS_CHECK].append(f"{place(path)} holds bytes of {len(found)} given scans")
    problems[SCANS_CHECK] += suspects(unknown, place)
    return problems


def _files(state: Path, place: Callable[[Path], str], stranger: Callable[[str], None]) -> Iterator[Path]:
    """All files below a state root but those of vaults and notes."""
    for path in sorted(state.rglob("*")):
        top = path.relative_to(state).parts[0]
        if (top.startswith("site-") or top == NOTES) and (state / top).is_dir() and not (state / top).is_symlink():
            continue
        if path.is_symlink():
            stranger(f"{place(path)} is a link to somewhere else")
        elif path.is_file():
            yield path
        elif not path.is_dir():
            stranger(f"{place(path)} is neither a file nor a folder")
