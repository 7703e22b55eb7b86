"""An experiment over the hospitals of a running federation."""

import tempfile
from pathlib import Path

from apps.cli.launcher import Tail, assemble_app, logs_of, outcome, submit_and_follow
from apps.deploy.enrol import flwr_of
from apps.deploy.layout import SERVER, SETTINGS, Server, read_settings, state_of
from braincl_med.foundation.errors import ConfigError
from braincl_med.records.store import now
from braincl_med.settings.config import ExperimentConfig


def server_in(folder: Path) -> tuple[Path, Server]:
    """The server's folder, named itself or by the one around it.

    Raises:
        ConfigError: there is none.
    """
    folder = folder.resolve()
    if not (folder / SETTINGS).is_file() and (folder / SERVER / SETTINGS).is_file():
        folder = folder / SERVER
    server = read_settings(folder)
    if not isinstance(server, Server):
        raise ConfigError(
            f"'{folder.name}' is a hospital's folder: runs are submitted on the server, from its folder"
        )
    return folder, server


def state_for(folder: Path, server: Server) -> Path:
    """The state root of a server's experiments."""
    return state_of(folder, server) / "experiments"


def submit(folder: Path, config: ExperimentConfig) -> str:
    """Submit `config` to the SuperLink of the server's folder and follow it to its end.

    Returns:
        One sentence on how it ended.

    Raises:
        BrainclError: it was refused, or failed; the message says why.
    """
    folder, server = server_in(folder)
    followed, flower_log = logs_of(config)
    began, follow = now(), Tail(followed)
    with tempfile.TemporaryDirectory(prefix="braincl-") as scratch:
        app = assemble_app(Path(scratch) / "app")
        status = submit_and_follow(flwr_of(folder, server), app, config, follow, flower_log)
    return outcome(config, status, began, flower_log)
