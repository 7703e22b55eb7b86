"""New certificates and keys for folders that are in use; state, vaults and experiments stay as they are."""

from collections.abc import Sequence
from pathlib import Path

from apps.deploy.certificates import node_key, server_certificate
from apps.deploy.layout import (
    CA,
    CA_FOLDER,
    CA_KEY,
    CERTIFICATE,
    KEY,
    NODE_KEY,
    NODES,
    SERVER,
    Hospital,
    Server,
    read_settings,
)
from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.files import write_whole


def renew(folder: Path, hospitals: Sequence[str] = ()) -> list[str]:
    """A new server certificate where `folder` holds the authority, a new node key where it is a hospital's.

    Args:
        folder: what `deploy init` wrote, or one hospital's folder of it.
        hospitals: in the first case, names of hospitals whose node keys are renewed too.

    Returns:
        Sentences on what was renewed and what has to be done with it.

    Raises:
        ConfigError: it is neither, or has no such hospital.
    """
    if (folder / CA_FOLDER / CA_KEY).is_file():
        return _renew_server(folder) + [line for name in hospitals for line in _renew_both(folder, name)]
    settings = read_settings(folder)
    if isinstance(settings, Hospital):
        _renew_node(folder, settings)
        return [
            f"{settings.name} has a new node key: give {settings.name}.pub to the server, whose administrator puts "
            f"it into {NODES}/ in place of the former one and calls `braincl deploy enrol`; then restart here"
        ]
    raise ConfigError(
        f"'{folder.name}' has no {CA_FOLDER}/{CA_KEY}, which signs the server's certificate: call this where the "
        "federation was set up, and bring server.pem and server.key to the server"
    )


def _renew_server(folder: Path) -> list[str]:
    server = read_settings(folder / SERVER)
    assert isinstance(server, Server)
    try:
        authority_key = (folder / CA_FOLDER / CA_KEY).read_bytes()
        key, certificate = server_certificate(authority_key, (folder / CA_FOLDER / CA).read_bytes(), server.host)
    except (OSError, ValueError):
        raise ConfigError(
            f"{CA_FOLDER}/{CA_KEY} or {CA} cannot be read: restore them from where they are kept"
        ) from None
    write_whole(folder / SERVER / KEY, key)
    write_whole(folder / SERVER / CERTIFICATE, certificate)
    return [
        f"the server has a new certificate for {server.host}: bring {SERVER}/{CERTIFICATE} and {SERVER}/{KEY} to it "
        "and restart it between two runs; hospitals need nothing"
    ]


def _renew_both(folder: Path, name: str) -> list[str]:
    own = folder / name
    settings = read_settings(own)
    if not isinstance(settings, Hospital):
        raise ConfigError(f"'{name}' is no hospital's folder")
    write_whole(folder / SERVER / NODES / f"{settings.name}.pub", _renew_node(own, settings))
    return [
        f"{settings.name} has a new node key: bring {name}/{NODE_KEY} to the hospital and {SERVER}/{NODES}/"
        f"{settings.name}.pub to the server, call `braincl deploy enrol` there, and restart both"
    ]


def _renew_node(folder: Path, hospital: Hospital) -> bytes:
    private, public = node_key(hospital.name)
    write_whole(folder / NODE_KEY, private)
    write_whole(folder / f"{hospital.name}.pub", public)
    return public
