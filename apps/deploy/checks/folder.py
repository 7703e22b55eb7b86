"""All findings of one folder, a server's or a hospital's."""

import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from apps.deploy import proxy
from apps.deploy.checks.certificate import authority_finding, certificate_finding
from apps.deploy.checks.finding import Finding
from apps.deploy.checks.machine import (
    disk_finding,
    folder_finding,
    memory_finding,
    private_finding,
    scans_finding,
    version_findings,
)
from apps.deploy.checks.network import ask, clock_finding, connection_finding
from apps.deploy.init import made_with
from apps.deploy.layout import CA, CERTIFICATE, KEY, NODE_KEY, SECRET, Hospital, Server, read_settings, state_of
from apps.flower.programs import vault_of


def findings_of(folder: Path) -> list[Finding]:
    """What `braincl deploy check` says of `folder`.

    Raises:
        ConfigError: its settings are refused.
    """
    folder = folder.resolve()
    settings = read_settings(folder)
    return list(_findings(folder, settings))


def _findings(folder: Path, settings: Server | Hospital) -> Iterator[Finding]:
    now = datetime.datetime.now(datetime.UTC)
    yield from version_findings(settings.made_with, made_with())
    try:
        authority = (folder / CA).read_bytes()
        yield authority_finding(authority, now)
        if isinstance(settings, Server):
            yield certificate_finding((folder / CERTIFICATE).read_bytes(), authority, settings.host, now)
    except OSError as error:
        yield Finding("certificate", f"a file cannot be read ({error})", "copy it again from where it was made")
    for name in (SECRET, NODE_KEY if isinstance(settings, Hospital) else KEY):
        yield private_finding(folder / name)
    answer = ask(settings.host, settings.port, folder / CA)
    yield connection_finding(answer, f"{settings.host}:{settings.port}")
    if isinstance(settings, Hospital) and (clock := clock_finding(answer, now)):
        yield clock
    if isinstance(settings, Server) and settings.proxy and proxy.program() is None:
        yield Finding("nginx", "is not installed", "install it (apt install nginx), and leave its own service off")
    state = state_of(folder, settings)
    yield folder_finding("state", state)
    if isinstance(settings, Hospital):
        yield folder_finding("vault", vault_of(folder, settings))
        yield scans_finding(settings.scans, folder / settings.scans)
    there = next(path for path in (state, *state.parents) if path.exists())
    yield disk_finding(shutil.disk_usage(there).free)
    yield memory_finding(psutil.virtual_memory().available)
