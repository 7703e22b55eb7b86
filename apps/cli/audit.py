"""`braincl audit`: what a privacy officer runs over vaults."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from apps.cli.options import NetworkDirOption, NetworkKeyOption, VaultKeyOption, keys_for
from braincl_med.foundation.errors import BrainclError, ConfigError

NOT_KEPT = 3
"""Exit status of an audit that passed and was printed, but could not be written or recorded as asked."""


def audit(
    vaults: Annotated[list[Path], typer.Argument(help="Hospitals' vault folders, or folders of one experiment.")],
    scans: Annotated[
        Path | None,
        typer.Option("--scans", help="Raw scans to search for and compare, written by `braincl scans export`."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for audit.json and audit.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    state: Annotated[
        Path | None,
        typer.Option("--state", help="State root of the run: it is looked through too, and records the audit."),
    ] = None,
    identifiers: Annotated[
        Path | None,
        typer.Option("--identifiers", help="Text file of strings that must be nowhere, one a line; none is shown."),
    ] = None,
    vault_key: VaultKeyOption = "",
    network_key: NetworkKeyOption = "",
    network_dir: NetworkDirOption = None,
    minutes: Annotated[
        float,
        typer.Option("--minutes", min=0, help="For attacks on what the scans became (with --scans); 0 for none."),
    ] = 7.0,
) -> None:
    """Check that vaults hold sound memories and nothing else.

    Exit status 1 when a check fails, 3 when the audit cannot be written or recorded.
    """
    from braincl_med.foundation.files import write_whole
    from braincl_med.privacy.audit import audit as audit_vaults
    from braincl_med.privacy.audit import passed, record, without_worst
    from braincl_med.privacy.checks.identifiers import NO_IDENTIFIERS, read_identifiers
    from braincl_med.privacy.given import load_scans
    from braincl_med.privacy.page import as_file, html, text
    from braincl_med.records.alive import now

    if out is not None and any(out.resolve().is_relative_to(vault.resolve()) for vault in vaults):
        raise ConfigError(f"'{out.name}' lies in a vault, where nothing but memories may be: choose another folder")
    keys = keys_for(vault_key, network_key, network_dir)
    strings = NO_IDENTIFIERS if identifiers is None else read_identifiers(identifiers)
    report = audit_vaults(vaults, None if scans is None else load_scans(scans), keys, strings, state, minutes)
    typer.echo(json.dumps(report, indent=2) if as_json else text(report))

    def write() -> None:
        if out is not None:
            # What names single scans is for the hospital alone.
            shared = without_worst(report) == report
            write_whole(out / "audit.json", as_file(report), shared=shared)
            write_whole(out / "audit.html", html(report, now()).encode(), shared=shared)

    kept = True
    steps: tuple[Callable[[], None], ...] = (partial(record, report, vaults, state), write)
    for keep in steps:
        try:
            keep()
        except BrainclError as error:
            typer.echo(f"braincl: the audit stands above but could not be kept: {error}", err=True)
            kept = False
    if not passed(report):
        raise typer.Exit(1)
    if not kept:
        raise typer.Exit(NOT_KEPT)
