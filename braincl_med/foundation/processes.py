"""Processes that must not outlive the one that started them."""

import ctypes
import os
import signal
import sys

from braincl_med.foundation.errors import FederationError

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
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
