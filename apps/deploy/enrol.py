"""Which hospitals' keys the SuperLink knows: those in the server's `nodes/`, and no others."""

import hashlib
import json
import os
import time
from pathlib import Path

from apps.deploy.layout import CA, NODES, Server, state_of
from apps.flower.command import Flwr, connection
from apps.flower.programs import environment, link_address
from braincl_med.foundation.errors import BrainclError, FederationError
from braincl_med.foundation.files import make_private, write_whole

RECORD = "enrolled.json"
"""File in the state folder: hospital → digest of its public key and its node id at the SuperLink."""
ATTEMPTS, PAUSE_SECONDS = 60, 2.0


def home_of(folder: Path, server: Server) -> Path:
    """The server's FLWR_HOME, with a `config.toml` that names its SuperLink."""
    home = state_of(folder, server) / "flwr"
    make_private(home)
    text = connection(*link_address(server), (folder / CA).resolve())
    if not (home / "config.toml").is_file() or (home / "config.toml").read_text() != text:
        write_whole(home / "config.toml", text.encode())
    return home


def flwr_of(folder: Path, server: Server) -> Flwr:
    """The `flwr` command against this server's SuperLink."""
    home = home_of(folder, server)
    return Flwr(home, environment(os.environ, home))


def enrol(folder: Path, server: Server) -> list[str]:
    """Register the keys in `nodes/` that are new, and unregister what was enrolled and is no longer there.

    Returns:
        One sentence for each change.

    Raises:
        FederationError: the SuperLink does not answer or refuses a key.
    """
    flwr = flwr_of(folder, server)
    known = _node_ids(flwr)
    path = state_of(folder, server) / RECORD
    record: dict[str, list[str]] = json.loads(path.read_text()) if path.is_file() else {}
    wanted = {key.stem: hashlib.sha256(key.read_bytes()).hexdigest() for key in (folder / NODES).glob("*.pub")}
    changes = []
    for name, (digest, node) in list(record.items()):
        if wanted.get(name) != digest or node not in known:
            if node in known:
                flwr.unregister(node, name)
                changes.append(f"{name}: its former key counts no longer")
            del record[name]
            write_whole(path, json.dumps(record).encode())
    for name in sorted(wanted.keys() - record.keys()):
        key = folder / NODES / f"{name}.pub"
        record[name] = [wanted[name], flwr.register(key, name)]
        write_whole(path, json.dumps(record).encode())
        changes.append(f"{name}: its key is enrolled")
    return changes


def _node_ids(flwr: Flwr) -> set[str]:
    """The ids of the nodes that the SuperLink knows, once it answers."""
    for attempt in range(ATTEMPTS):
        try:
            if (nodes := flwr.nodes()) is not None:
                return nodes
        except BrainclError:
            if attempt == ATTEMPTS - 1:
                raise
        time.sleep(PAUSE_SECONDS)
    raise FederationError("the SuperLink does not tell its nodes: see superlink.log in the state folder's logs")
