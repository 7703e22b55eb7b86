"""What lies where in the folders of a federation, and what each says of itself.

DIR/ca/            the certificate authority's key: with whoever set the federation up, and nowhere else
DIR/server/        to the server
DIR/hospital-N/    to hospital N
"""

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from braincl_med.foundation.errors import ConfigError

SETTINGS = "settings.toml"
CA, CERTIFICATE, KEY = "ca.crt", "server.pem", "server.key"
CA_FOLDER, CA_KEY = "ca", "ca.key"
NODE_KEY, NODES = "node.key", "nodes"
SECRET = "executor.secret"
PROXY = "nginx.conf"
SERVER = "server"
PORT, NODE_PORT = 42000, 42100
"""Where hospitals connect to (the SuperLink has the next one), and the first of their own SuperNodes on loopback."""
DOMAIN = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


def is_address(host: str) -> bool:
    """Whether `host` is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def checked_host(host: str) -> str:
    """`host`, if it is an IPv4 address or a domain name.

    Raises:
        ValueError: it is neither.
    """
    numeric = not host.replace(".", "").isdigit()
    if ":" in host or not (is_address(host) or (numeric and DOMAIN.fullmatch(host))):
        raise ValueError("is no IPv4 address and no name of a machine")
    return host


Host = Annotated[str, AfterValidator(checked_host)]
Port = Annotated[int, Field(ge=1, le=65535)]


class MadeWith(BaseModel):
    """The versions that a folder was made with."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-"))
    braincl_med: str
    flwr: str
    python: str


class _Common(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-"))
    host: Host
    port: Port
    local_port: Port
    state: str
    made_with: MadeWith


class Server(_Common):
    """The server's settings."""

    role: Literal["server"]
    proxy: bool
    hospitals: Annotated[int, Field(ge=1, le=1000)]


class Hospital(_Common):
    """A hospital's settings; `node` goes to its SuperNode as it stands (docs/running.md has the keys)."""

    role: Literal["hospital"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    number: Annotated[int, Field(ge=0)]
    scans: str
    node: dict[str, str | int | float | bool]


def read_settings(folder: Path) -> Server | Hospital:
    """What the folder says of itself.

    Raises:
        ConfigError: it is no folder of a federation, or its settings are refused.
    """
    try:
        values = tomllib.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return (Hospital if values.get("role") == "hospital" else Server).model_validate(values)
    except FileNotFoundError:
        raise ConfigError(
            f"'{folder.name}' has no {SETTINGS}: name the server's or a hospital's folder that "
            "`braincl deploy init` wrote"
        ) from None
    except OSError as error:
        raise ConfigError(f"{SETTINGS} cannot be read: {(error.strerror or '').lower()}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{SETTINGS} is no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{SETTINGS}: '{where}' {first['msg'].lower()}") from None


def state_of(folder: Path, settings: Server | Hospital) -> Path:
    """Where the programs of `folder` may write: absolute, or inside it."""
    return (folder / settings.state).resolve()


def parts_in(folder: Path) -> list[Path]:
    """The folders to start or check: `folder` itself, or the server's and then the hospitals' inside it.

    Raises:
        ConfigError: there are none.
    """
    if (folder / SETTINGS).is_file():
        return [folder]
    numbered = sorted(
        (path for path in folder.glob("hospital-*") if (path / SETTINGS).is_file()),
        key=lambda path: (len(path.name), path.name),
    )
    found = [path for path in (folder / SERVER,) if (path / SETTINGS).is_file()] + numbered
    if not found:
        read_settings(folder)
    return found
