"""The programs of a folder: in which order they start, what private files each reads, and with what command."""

import sys
from dataclasses import dataclass
from pathlib import Path

from apps.deploy import proxy
from apps.deploy.layout import CA, CERTIFICATE, KEY, NODE_KEY, PROXY, SECRET, Hospital, Server
from apps.flower import programs
from braincl_med.foundation.errors import ConfigError


@dataclass(frozen=True)
class Part:
    """One program.

    Attributes:
        name: as `--only` takes it.
        what: what it does, for people.
        files: those of the folder that systemd hands to it, so that its user cannot read the others' keys.
    """

    name: str
    what: str
    files: tuple[str, ...]


SUPERLINK = Part("superlink", "Flower's SuperLink: runs, messages, nodes", (KEY, SECRET))
EXECUTOR = Part("executor", "starts the server's app for each run", (SECRET,))
PROXY_PART = Part("proxy", "nginx: lets hospitals reach the Fleet interface alone", (PROXY, CERTIFICATE, KEY, CA))
SUPERNODE = Part("supernode", "Flower's SuperNode: fetches orders, sends answers", (NODE_KEY, SECRET))
APP = Part("app", "answers orders with the installed program alone", (SECRET,))


def parts_of(settings: Server | Hospital) -> tuple[Part, ...]:
    """The programs of a folder in the order in which they start."""
    if isinstance(settings, Hospital):
        return SUPERNODE, APP
    return (SUPERLINK, EXECUTOR, PROXY_PART) if settings.proxy else (SUPERLINK, EXECUTOR)


def command_of(part: Part, folder: Path, settings: Server | Hospital) -> list[str]:
    """The command line of a part of `folder`, an absolute path.

    Raises:
        ConfigError: the part is none of this folder's, or its program is not installed.
    """
    if isinstance(settings, Hospital):
        if part is SUPERNODE:
            return programs.supernode(folder, settings)
        if part is APP:
            return [sys.executable, "-P", "-m", "apps.deploy.pinned", str(folder)]
    elif part is SUPERLINK:
        return programs.superlink(folder, settings)
    elif part is EXECUTOR:
        return programs.executor(folder, settings)
    elif part is PROXY_PART and settings.proxy:
        return proxy.command(folder, settings)
    raise ConfigError(
        f"'{part.name}' is no part of this folder: it has {', '.join(each.name for each in parts_of(settings))}"
    )


def part_named(name: str, settings: Server | Hospital) -> Part:
    """The part of that name.

    Raises:
        ConfigError: the folder has none.
    """
    for part in parts_of(settings):
        if part.name == name:
            return part
    raise ConfigError(
        f"this folder has no part '{name}': it has {', '.join(each.name for each in parts_of(settings))}"
    )
