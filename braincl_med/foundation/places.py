"""Where things lie below a state root."""

from pathlib import Path


def server_folder(state: Path, experiment: str) -> Path:
    """Where the server keeps an experiment's checkpoint, and the lock that whoever writes the experiment holds."""
    return state / "server" / experiment
