"""The project's log lines: on standard error, and for a run in a file of its own below the state root."""

import logging
import sys
from pathlib import Path

from braincl_med.foundation.files import make_private_file, storage_error

FORMAT = logging.Formatter("%(message)s")


def show_on_stderr() -> None:
    """Write the `braincl` logger's lines to standard error; calling it twice is harmless."""
    log = logging.getLogger("braincl")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(FORMAT)
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False


def log_path(state: Path, experiment: str) -> Path:
    """Where the server's lines about an experiment are kept."""
    return state / "logs" / f"{experiment}.log"


def keep_in_file(state: Path, experiment: str) -> None:
    """Append the `braincl` logger's lines to the experiment's log file as well.

    Raises:
        VaultError: the file cannot be written.
    """
    path = log_path(state, experiment)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        make_private_file(path)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise storage_error(path, 0, error) from error
    handler.setFormatter(FORMAT)
    logging.getLogger("braincl").addHandler(handler)
