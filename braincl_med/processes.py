"""Whether the process that launched this run is still there."""

import os

from braincl_med.errors import FederationError

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
