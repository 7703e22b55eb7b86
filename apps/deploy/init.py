"""Writes the folders of a federation."""

import os
import platform
import secrets
from importlib.metadata import version
from pathlib import Path

from apps.deploy import proxy
from apps.deploy.certificates import new_authority, node_key, server_certificate
from apps.deploy.containers import DOCKERFILE, compose
from apps.deploy.layout import (
    CA,
    CA_FOLDER,
    CA_KEY,
    CERTIFICATE,
    KEY,
    NODE_KEY,
    NODE_PORT,
    NODES,
    PORT,
    PROXY,
    SECRET,
    SERVER,
    SETTINGS,
    Hospital,
    MadeWith,
    Server,
    checked_host,
    is_loopback,
)
from apps.deploy.page import page
from apps.deploy.units import units
from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.files import make_private, storage_error, write_whole
from braincl_med.foundation.version import program_version

SECRET_BYTES = 32
NODE_NOTES = """\
[node]
# More of what docs/running.md lets a hospital say of itself: vault-key, network-key, network-dir, privacy-epsilon,
# masking-identities, identity-key.
"""


def made_with() -> MadeWith:
    """The versions that run here."""
    return MadeWith.model_validate(
        {"braincl-med": program_version(), "flwr": version("flwr"), "python": platform.python_version()}
    )


def initialise(folder: Path, host: str, hospitals: int, port: int = PORT, with_proxy: bool | None = None) -> None:
    """Write the folders of a server at `host` and of so many hospitals.

    Args:
        folder: where they go; must be empty or missing.
        host: the server's name or IPv4 address, as hospitals will call it.
        hospitals: how many.
        port: the one that hospitals connect to; the two after it serve the server's own machine.
        with_proxy: nginx in front of the SuperLink; None leaves it out on loopback where there is no nginx.

    Raises:
        ConfigError: `folder` has content, or the host is none.
        BrainclError: it cannot be written.
    """
    try:
        checked_host(host)
    except ValueError as error:
        raise ConfigError(f"--server {host[:100]!r} {error}: give what hospitals will connect to") from None
    _take(folder)
    if with_proxy is None:
        with_proxy = not is_loopback(host) or proxy.program() is not None
    if not with_proxy and not is_loopback(host):
        raise ConfigError(
            "without a proxy whoever reaches the SuperLink's port may submit code to it: leave it out on 127.0.0.1 "
            "alone"
        )
    common = {"host": host, "port": port, "state": "state", "made-with": made_with().model_dump(by_alias=True)}
    server = Server.model_validate(
        {**common, "role": "server", "proxy": with_proxy, "hospitals": hospitals, "local-port": port + 1}
    )
    key, certificate = new_authority(f"BrainCL-Med federation at {host}"[:64])
    _write(folder / CA_FOLDER, {CA_KEY: key, CA: certificate})
    node_keys = {f"hospital-{number + 1}": node_key(f"hospital-{number + 1}") for number in range(hospitals)}
    write_server(folder / SERVER, server, key, certificate, {name: public for name, (_, public) in node_keys.items()})
    for number, (name, (private, public)) in enumerate(node_keys.items()):
        hospital = Hospital.model_validate(
            {
                **common, "role": "hospital", "name": name, "number": number, "scans": "", "node": {},
                "local-port": port - PORT + NODE_PORT + number,
            }
        )  # fmt: skip
        write_hospital(folder / name, hospital, certificate, private, public)
    _write(folder, {"README.md": page(server, sorted(node_keys)).encode()})


def write_server(
    folder: Path, server: Server, authority_key: bytes, authority: bytes, nodes: dict[str, bytes]
) -> None:
    """The server's folder."""
    key, certificate = server_certificate(authority_key, authority, server.host)
    _write(folder, {CA: authority, CERTIFICATE: certificate, KEY: key, SECRET: secrets.token_bytes(SECRET_BYTES)})
    _write(folder / NODES, {f"{name}.pub": public for name, public in nodes.items()})
    extra = {PROXY: proxy.configuration(server)} if server.proxy else {}
    _write_programs(folder, server, extra)


def write_hospital(folder: Path, hospital: Hospital, authority: bytes, private: bytes, public: bytes) -> None:
    """A hospital's folder."""
    own = {
        CA: authority,
        NODE_KEY: private,
        f"{hospital.name}.pub": public,
        SECRET: secrets.token_bytes(SECRET_BYTES),
    }
    _write(folder, own)
    _write_programs(folder, hospital, {})


def settings_text(settings: Server | Hospital) -> str:
    """settings.toml of a folder."""
    lines = [f'role = "{settings.role}"', f'host = "{settings.host}"   # the server, as hospitals call it']
    lines += [f"port = {settings.port}   # of the server: the one that hospitals connect to"]
    if isinstance(settings, Server):
        lines += [f"local-port = {settings.local_port}   # of the SuperLink behind the proxy, on 127.0.0.1"]
        lines += [f"proxy = {str(settings.proxy).lower()}   # nginx in front of the SuperLink"]
        lines += [f"hospitals = {settings.hospitals}"]
    else:
        lines += [f'name = "{settings.name}"', f"number = {settings.number}   # its share of a MedMNIST stream"]
        lines += [f"local-port = {settings.local_port}   # of the SuperNode, on 127.0.0.1"]
        lines += [
            f'scans = "{settings.scans}"   # folder of MedMNIST files or own scans; empty: phantoms or the run\'s'
        ]
    lines += [f'state = "{settings.state}"   # what the programs write, below this folder unless absolute', ""]
    if isinstance(settings, Hospital):
        lines += [NODE_NOTES]
    lines += [
        "[made-with]",
        *(f'{key} = "{value}"' for key, value in settings.made_with.model_dump(by_alias=True).items()),
    ]
    return "\n".join(lines) + "\n"


def _write_programs(folder: Path, settings: Server | Hospital, extra: dict[str, str]) -> None:
    texts = {SETTINGS: settings_text(settings), "Dockerfile": DOCKERFILE, "compose.yaml": compose(settings), **extra}
    _write(folder, {name: text.encode() for name, text in texts.items()})
    _write(folder / "systemd", {name: text.encode() for name, text in units(settings).items()})
    make_private(folder / "state")


def _take(folder: Path) -> None:
    """Make `folder` for its owner alone.

    Raises:
        ConfigError: it has content: keys in it may be in use.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(os.scandir(folder))):
            raise ConfigError(
                f"'{folder.name}' is not empty, and keys in it may be in use: name a new folder, or use "
                "`braincl deploy renew` for new certificates and keys"
            )
        make_private(folder)
        folder.chmod(0o700)
    except OSError as error:
        raise storage_error(folder, 0, error) from error


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files for their owner alone."""
    try:
        make_private(folder)
    except OSError as error:
        raise storage_error(folder, 0, error) from error
    for name, content in files.items():
        write_whole(folder / name, content)
