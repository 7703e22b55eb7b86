"""Signs of life: a small file beside an experiment's checkpoint that its run writes anew every few seconds.

    server/<experiment>/alive.json     when, which process, and which step is in progress since when

The lock alone tells only that a process exists; one that hangs, or is held, holds it too.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import NonNegativeInt, TypeAdapter

from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import canonical_json, write_whole

NAME = "alive.json"
BEAT_SECONDS = 10.0
SILENT_SECONDS = 300.0
"""How old a sign of life may be of a run that is believed to go on; a machine with too much to do misses some."""


def now() -> str:
    """The time as stored: UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def seconds_since(stamp: str) -> float:
    """How long ago a stored time was, in seconds; 0 for one that is to come, as after a clock was set back."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds())


@dataclass(frozen=True)
class Sign:
    """The last sign of life of a run.

    Attributes:
        time: of the sign.
        process, host: which wrote it.
        task, position, phase, round: the step in progress, all counted from 0.
        since: when that began.
    """

    time: str
    process: int
    host: str
    task: NonNegativeInt
    position: NonNegativeInt
    phase: str
    round: NonNegativeInt
    since: str


SIGN = TypeAdapter(Sign)


def read_sign(folder: Path) -> Sign | None:
    """The sign in an experiment's folder; None where there is none, or none that can be read."""
    try:
        sign = SIGN.validate_json((folder / NAME).read_bytes(), strict=True)
        seconds_since(sign.time), seconds_since(sign.since)
    except (OSError, ValueError, TypeError):
        return None
    return sign


def forget_sign(folder: Path) -> None:
    """Delete the sign, because what it tells of is to be done again."""
    (folder / NAME).unlink(missing_ok=True)


class Heartbeat:
    """Writes signs of life of this process into a folder; made by `heartbeat`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sign: Sign | None = None
        self._writing = threading.Lock()

    def begins(self, task: int, position: int, phase: str, number: int) -> None:
        """Say that a step begins; the round counts from 0."""
        stamp = now()
        self._sign = Sign(stamp, os.getpid(), socket.gethostname(), task, position, phase, number, stamp)
        self.beat()

    def beat(self) -> None:
        """Write a sign, if a step has begun; a full disk must not end a run for it."""
        with self._writing:
            if self._sign is not None:
                self._sign = replace(self._sign, time=now())
                with suppress(VaultError):
                    write_whole(self._folder / NAME, canonical_json(asdict(self._sign)))


@contextmanager
def heartbeat(folder: Path) -> Iterator[Heartbeat]:
    """Signs of life every `BEAT_SECONDS` within the block, and one at its end."""
    heart, ended = Heartbeat(folder), threading.Event()

    def beating() -> None:
        while not ended.wait(BEAT_SECONDS):
            heart.beat()

    thread = threading.Thread(target=beating, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield heart
    finally:
        ended.set()
        thread.join()
        heart.beat()
