"""Whether versions, folders, disk, memory and scans are as they should be."""

import os
import stat
from pathlib import Path

from apps.deploy.checks.finding import Finding
from apps.deploy.layout import MadeWith

DISK_BYTES, MEMORY_BYTES = 5 << 30, 2 << 30
"""Least free: a demo moves 5 GiB through the server; a hospital's app needs 0.9 GB before it trains."""
SCAN_FILES = (".npz", ".png", ".jpg", ".jpeg", ".dcm", ".tif", ".tiff")


def version_findings(made: MadeWith, here: MadeWith) -> list[Finding]:
    """Whether the program, Flower and Python are those that the folder was made with; Python up to its patch."""

    def minor(version: str) -> str:
        return ".".join(version.split(".")[:2])

    pairs = [
        ("program", made.braincl_med, here.braincl_med, f"pip install braincl-med=={made.braincl_med}"),
        ("Flower", made.flwr, here.flwr, f"pip install 'flwr[simulation]=={made.flwr}'"),
        ("Python", minor(made.python), minor(here.python), f"make the environment with Python {minor(made.python)}"),
    ]
    return [
        Finding(what, seen)
        if seen == expected
        else Finding(
            what, f"is {seen}, the federation was made with {expected}", f"{do}, or upgrade all sides together"
        )
        for what, expected, seen, do in pairs
    ]


def folder_finding(what: str, folder: Path) -> Finding:
    """Whether this user alone can read and write `folder`."""
    if not folder.is_dir():
        above = next(path for path in folder.parents if path.exists())
        if os.access(above, os.W_OK | os.X_OK):
            return Finding(what, "is made at the first start")
        return Finding(
            what, "is missing, and this user cannot make it", "make it for the program's user: chown, chmod 700"
        )
    if not _writable(folder):
        return Finding(what, "cannot be written by this user", "chown it to the program's user, or mount it writable")
    if folder.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding(what, "can be read by other users", f"chmod 700 {folder}")
    return Finding(what, "this user alone reads and writes it")


def _writable(folder: Path) -> bool:
    """Whether a file can be made in it: root may write what its mode forbids, and not what is mounted read-only."""
    return os.access(folder, os.W_OK | os.X_OK)


def private_finding(path: Path) -> Finding:
    """Whether a key lies where only its owner reads it."""
    what = f"key {path.name}"
    if not path.is_file():
        return Finding(what, "is missing", "copy it again from where the federation was set up, or renew it")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding(what, "can be read by other users", f"chmod 600 {path}, and renew it if others had the chance")
    return Finding(what, "its owner alone reads it")


def disk_finding(free: int) -> Finding:
    """Whether so many free bytes do."""
    if free < DISK_BYTES:
        return Finding(
            "disk", f"{free / 2**30:.1f} GiB are free", f"free {DISK_BYTES / 2**30:.0f} GiB where the state lies"
        )
    return Finding("disk", f"{free / 2**30:.0f} GiB are free")


def memory_finding(available: int) -> Finding:
    """Whether so many available bytes do."""
    if available < MEMORY_BYTES:
        return Finding(
            "memory",
            f"{available / 2**30:.1f} GiB are available",
            f"leave {MEMORY_BYTES / 2**30:.0f} GiB to this program",
        )
    return Finding("memory", f"{available / 2**30:.0f} GiB are available")


def scans_finding(named: str, folder: Path) -> Finding:
    """Whether the hospital's folder of scans has any."""
    if not named:
        return Finding("scans", "no folder is named: phantoms, or what the run names")
    if not folder.is_dir():
        return Finding("scans", f"'{named}' is no folder", "correct `scans` in settings.toml")
    if not any(path.suffix.lower() in SCAN_FILES for path in folder.rglob("*")):
        return Finding("scans", f"'{named}' has none", "put MedMNIST files or scans there (`braincl scans check`)")
    return Finding("scans", f"'{named}' has some (`braincl scans check` looks into them)")
