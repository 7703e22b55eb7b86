"""Flower 1.41's programs: their flags, environment, addresses and HTTP paths."""

import os
from collections.abc import Mapping
from pathlib import Path

from apps.deploy.layout import CA, CERTIFICATE, KEY, NODE_KEY, SECRET, Hospital, Server, state_of
from apps.flower.command import LOOPBACK, environment_of, program, quoted
from braincl_med.foundation.processes import LAUNCHER_VARIABLE

FLEET = (
    "activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages", "get-run", "get-fab",
    "push-object", "pull-object", "confirm-message-received",
)  # fmt: skip
"""What a registered SuperNode asks of the SuperLink, below FLEET_ROOT; all else is for the server's own machine."""
FLEET_ROOT = "/v1/fleet/"
LOCK_SECONDS = 60
"""How long Flower's database waits for its lock; after the default 5 s "database is locked" ends a loop."""
STEP_SECONDS = 0.2
"""How often an executor asks for a task."""


def secret_path(folder: Path, name: str) -> Path:
    """Where the private file `name` lies: in systemd's credentials if the unit loads it, else in the folder."""
    loaded = Path(os.environ.get("CREDENTIALS_DIRECTORY", folder)) / name
    return loaded if loaded.is_file() else folder / name


def link_address(server: Server) -> tuple[str, int]:
    """Where the SuperLink listens: on loopback behind the proxy, or at the hospitals' port itself."""
    return (LOOPBACK, server.local_port) if server.proxy else (server.host, server.port)


def simulating_superlink(port: int) -> list[str]:
    """A SuperLink on this machine alone, which starts apps and simulates nodes itself."""
    return [
        program("flower-superlink"),
        "--insecure",
        "--simulation",
        "--isolation", "subprocess",
        "--host", LOOPBACK, "--port", str(port),
        "--disable-runtime-dependency-installation",
    ]  # fmt: skip


def simulated(hospitals: int, cores_per_hospital: int, gpus: int) -> str:
    """Flower's configuration of simulated hospitals, who share the machine's GPUs evenly."""
    federation = f"num-supernodes={hospitals} client-resources-num-cpus={cores_per_hospital}"
    if gpus:
        federation += f" client-resources-num-gpus={1000 // -(-hospitals // gpus) / 1000}"
    return federation


def superlink(folder: Path, server: Server) -> list[str]:
    """The SuperLink, which runs no app itself: its executor must know the secret."""
    host, port = link_address(server)
    database = state_of(folder, server) / "superlink.db"
    return [
        program("flower-superlink"),
        "--ssl-ca-certfile", str(folder / CA),
        "--ssl-certfile", str(folder / CERTIFICATE),
        "--ssl-keyfile", str(secret_path(folder, KEY)),
        "--enable-supernode-auth",
        "--isolation", "process",
        "--superexec-auth-secret-file", str(secret_path(folder, SECRET)),
        "--database", f"sqlite:///{database}?timeout={LOCK_SECONDS}",
        "--host", host, "--port", str(port),
        "--disable-runtime-dependency-installation",
    ]  # fmt: skip


def executor(folder: Path, server: Server) -> list[str]:
    """What starts the server app of a run that was submitted on the server."""
    host, port = link_address(server)
    return [
        program("flower-superexec"),
        "--runtime-api-address", f"{host}:{port}",
        "--root-certificates", str(folder / CA),
        "--superexec-auth-secret-file", str(secret_path(folder, SECRET)),
    ]  # fmt: skip


def supernode(folder: Path, hospital: Hospital) -> list[str]:
    """A hospital's SuperNode, which runs no app itself; its own port is open to this machine alone."""
    return [
        program("flower-supernode"),
        "--root-certificates", str(folder / CA),
        "--superlink", f"{hospital.host}:{hospital.port}",
        "--auth-supernode-private-key", str(secret_path(folder, NODE_KEY)),
        "--isolation", "process",
        "--superexec-auth-secret-file", str(secret_path(folder, SECRET)),
        "--host", LOOPBACK, "--port", str(hospital.local_port),
        "--node-config", node_config(folder, hospital),
    ]  # fmt: skip


def node_config(folder: Path, hospital: Hospital) -> str:
    """What `client/app` reads of this hospital, as Flower wants it: TOML values with spaces between."""
    values: dict[str, str | int | float | bool] = {
        "partition-id": hospital.number,
        "site": hospital.name,
        "vault-dir": str(vault_of(folder, hospital)),
    }
    if hospital.scans:
        values["data-dir"] = str((folder / hospital.scans).resolve())
    return " ".join(f"{key}={_toml(value)}" for key, value in (values | hospital.node).items())


def vault_of(folder: Path, hospital: Hospital) -> Path:
    """The folder of a hospital's vaults."""
    return state_of(folder, hospital) / "vault"


def environment(inherited: Mapping[str, str], home: Path) -> dict[str, str]:
    """The environment of Flower's programs: nothing that steers them elsewhere, a home of their own."""
    kept = environment_of(inherited, home, os.getpid())
    kept.pop(LAUNCHER_VARIABLE)  # a federation goes on when the terminal that submitted a run is closed
    return kept | {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": str(STEP_SECONDS)}


def _toml(value: str | int | float | bool) -> str:
    if isinstance(value, str):
        return quoted(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
