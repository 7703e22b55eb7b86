"""What is attached to files without being in them: extended attributes, access lists, further names."""

import os
import stat
from pathlib import Path

from braincl_med.privacy.accounting import Place
from braincl_med.privacy.search import shown

OF_THE_SYSTEM = ("security.",)
"""Attributes that a system sets by itself, such as labels of SELinux."""
ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")


def attached(folder: Path, place: Place) -> list[str]:
    """A sentence for the folder, and each folder and file below it, to which something is attached.

    An extended attribute can hold anything, an access list lets others in whatever the mode says, and a file with two
    names is kept elsewhere too.
    """
    problems = []
    for path in [folder, *sorted(folder.rglob("*"))]:
        seen = path.lstat()
        if stat.S_ISLNK(seen.st_mode):
            continue
        for name in _attributes(path):
            what = "an access list" if name in ACCESS_LISTS else "an attribute"
            problems.append(f"{place(path)} has {what} {shown(name)}")
        if stat.S_ISREG(seen.st_mode) and seen.st_nlink > 1:
            problems.append(f"{place(path)} has {seen.st_nlink} names, so it lies elsewhere too")
    return problems


def _attributes(path: Path) -> list[str]:
    if not hasattr(os, "listxattr"):  # not on macOS
        return []
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:  # this file system has none
        return []
    return sorted(name for name in names if not name.startswith(OF_THE_SYSTEM))
