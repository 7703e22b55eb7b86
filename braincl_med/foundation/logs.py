"""The project's log lines, each with its time: on standard error, and for a run in a file below the state root."""

import logging
import os
import sys
import time
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from braincl_med.foundation.files import make_private_file, storage_error

LARGEST = 5 * 2**20
"""Bytes of a log, after which a new one is begun."""
FORMER = 3
"""How many logs before the present one are kept, as `.log.1` and so on."""


def _format(who: str = "") -> logging.Formatter:
    """Lines that begin with the time, in UTC, and with whose they are."""
    formatter = logging.Formatter(f"%(asctime)sZ {f'[{who}] ' if who else ''}%(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    return formatter


def show_on_stderr(who: str = "") -> None:
    """Write the `braincl` logger's lines to standard error; calling it again only changes whose they are.

    Args:
        who: the hospital's name, where one speaks.
    """
    log = logging.getLogger("braincl")
    if not log.handlers:
        log.addHandler(logging.StreamHandler(sys.stderr))
        log.setLevel(logging.INFO)
        log.propagate = False
    for handler in log.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setFormatter(_format(who.replace("%", "%%")))


def log_path(state: Path, experiment: str) -> Path:
    """Where the server's lines about an experiment are kept."""
    return state / "logs" / f"{experiment}.log"


def former_log(path: Path) -> Path:
    """The log before the present one."""
    return path.with_name(f"{path.name}.1")


def begin_anew_if_long(path: Path) -> None:
    """Put a log aside that others write and that has grown long, in place of the one before it.

    Raises:
        OSError: it cannot be.
    """
    if path.is_file() and path.stat().st_size > LARGEST:
        os.replace(path, former_log(path))


class _PrivateLog(RotatingFileHandler):
    """A file of limited size for its owner alone, also after it was begun anew."""

    def _open(self) -> TextIOWrapper:
        make_private_file(Path(self.baseFilename))
        return super()._open()


def keep_in_file(state: Path, experiment: str) -> None:
    """Append the `braincl` logger's lines to the experiment's log file as well.

    Raises:
        VaultError: the file cannot be written.
    """
    path = log_path(state, experiment)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _PrivateLog(path, maxBytes=LARGEST, backupCount=FORMER, encoding="utf-8")
    except OSError as error:
        raise storage_error(path, 0, error) from error
    handler.setFormatter(_format())
    logging.getLogger("braincl").addHandler(handler)
