"""The project's log lines, marked so that they can be told from Flower's and Ray's in one stream."""

import logging
import sys

LOG_MARK = "braincl | "
"""Stands before every line that a person should see."""


def show_on_stderr() -> None:
    """Write the `braincl` logger's lines to standard error, each behind the mark; calling it twice is harmless."""
    log = logging.getLogger("braincl")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(f"{LOG_MARK}%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
