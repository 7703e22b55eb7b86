"""What the operating system refuses, in one sentence for a person."""

import os
import re
from pathlib import Path

FOLDERS = re.compile(r"(?<![\w.:/])~?/(?:[^/\s'\"]+/)*(?=[^/\s'\"])")
LONGEST_NAME = 60


def in_one_sentence(error: OSError | RuntimeError) -> str:
    """What was refused and what to do, without a path above a file's name.

    >>> in_one_sentence(PermissionError(13, "Permission denied", "/secret/folder/manifest.json"))
    "'manifest.json' cannot be used: permission denied; check its name, its permissions and the free space"
    >>> in_one_sentence(RuntimeError("cannot open /secret/folder/scans.npz"))
    'it cannot go on: cannot open scans.npz (RuntimeError)'
    """
    if isinstance(error, OSError) and error.errno:
        named = error.filename2 or error.filename
        what = os.strerror(error.errno).lower()
        if isinstance(named, str | bytes) and named:
            name = Path(os.fsdecode(named)).name
            shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
            return f"'{shown}' cannot be used: {what}; check its name, its permissions and the free space"
        return f"the operating system refuses: {what}; check permissions and the free space"
    lines = str(error).strip().splitlines() or ["no reason given"]
    return f"it cannot go on: {FOLDERS.sub('', lines[0])} ({type(error).__name__})"
