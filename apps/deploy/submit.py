"""An experiment over the hospitals of a running federation."""

import logging
import tempfile
from pathlib import Path

from apps.cli.launcher import Tail, anchored, assemble_app, logs_of, outcome, submit_and_follow
from apps.deploy.enrol import flwr_of
from apps.deploy.layout import SERVER, SETTINGS, Server, is_loopback, read_settings, state_of
from braincl_med.federation.checkpoint import folder_of
from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.files import locked
from braincl_med.records.alive import now
from braincl_med.settings.config import ExperimentConfig
from braincl_med.streams.availability import resolve

log = logging.getLogger("braincl")


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
        LockedError: another run of the experiment goes on.
        BrainclError: it was refused, or failed; the message says why.
    """
    folder, server = server_in(folder)
    stream = config.stream
    if is_loopback(server.host):  # hospitals elsewhere have scans that this machine does not see
        stream, fallback = resolve(stream, config.data_folder)
        if fallback:
            log.warning("%s", fallback)
    config = anchored(config, stream)
    with locked(folder_of(config.state_folder, config.name), f"experiment '{config.name}'"):
        pass  # a second run of the experiment would end at its first step, and what it says there nobody reads
    followed, flower_log = logs_of(config)
    began, follow = now(), Tail(followed)
    with tempfile.TemporaryDirectory(prefix="braincl-") as scratch:
        app = assemble_app(Path(scratch) / "app")
        status = submit_and_follow(flwr_of(folder, server), app, config, follow, flower_log)
    return outcome(config, status, began, flower_log)
