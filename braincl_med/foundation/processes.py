"""Processes that must not outlive the one that started them, and the signals that end that one."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from braincl_med.foundation.errors import FederationError

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LAUNCHER_VARIABLE = "BRAINCL_LAUNCHER"
"""Process id of `braincl run`, for the processes below its SuperLink; not set under plain `flwr run`."""


def require_launcher() -> None:
    """Stop a run whose `braincl run` was killed, so that nobody's state changes behind a new run's back.

    Raises:
        FederationError: the launcher was named and is gone.
    """
    launcher = os.environ.get(LAUNCHER_VARIABLE)
    if launcher is None:
        return
    try:
        os.kill(int(launcher), 0)
    except (ProcessLookupError, ValueError):
        raise FederationError("`braincl run` has ended before the run did: start it again with --resume") from None


def end_with_parent(parent: int) -> None:
    """Have Linux end this process when the thread that started it is gone, even by SIGKILL; for `preexec_fn`.

    Args:
        parent: the process id of the one that starts this one, which may be gone already.
    """
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)


class Interrupted(BaseException):
    """Somebody asked this process to end, by Ctrl-C or another signal; no error, so nothing but its end catches it.

    Attributes:
        status: the exit status that tells which signal it was.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted ({signal.Signals(number).name})")
        self.status = 128 + number


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the signals that ask for an end raise `Interrupted` within the block; in the main thread alone.

    The first one counts: what cleans up after it is not interrupted again. A signal that is ignored (`nohup`) stays
    ignored.
    """
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in ENDING}

    def interrupt(number: int, _: FrameType | None) -> None:
        for each in ENDING:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    try:
        for number, handler in previous.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
