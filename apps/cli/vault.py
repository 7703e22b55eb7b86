"""`braincl vault …`: what a hospital keeps."""

import json
from pathlib import Path
from typing import Annotated

import typer

from braincl_med.foundation.errors import ConfigError

app = typer.Typer(help="What a hospital keeps: list it, verify it, erase from it.", no_args_is_help=True)

VaultsArgument = Annotated[
    list[Path], typer.Argument(help="Hospitals' vault folders, or folders of one experiment.", metavar="DIR...")
]


@app.command("list")
def vault_list(
    vaults: VaultsArgument, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List each task's memory: its classes, records, and bytes by item."""
    from braincl_med.vault.folders import experiments
    from braincl_med.vault.listing import listing, table

    rows = [row for vault in vaults for folder in experiments(vault) for row in listing(folder)]
    typer.echo(json.dumps(rows, indent=2) if as_json else table(rows))


@app.command("verify")
def vault_verify(vaults: VaultsArgument) -> None:
    """Read and decode all that is committed, writing nothing; exit status 1 when something cannot be relied on."""
    from braincl_med.vault.folders import experiments
    from braincl_med.vault.verify import verify

    sound = True
    for folder in [folder for vault in vaults for folder in experiments(vault)]:
        for finding in verify(folder):
            sound &= finding.sound
            mark = "" if finding.sound else "NOT SOUND: "
            typer.echo(f"{folder.parent.name}/{folder.name}: {finding.what}: {mark}{finding.detail}")
    if not sound:
        raise typer.Exit(1)


@app.command("erase")
def vault_erase(
    vault: Annotated[Path, typer.Argument(help="A hospital's vault, or one experiment's folder.", metavar="DIR")],
    dataset_label: Annotated[
        str | None, typer.Option("--class", help="Erase every record of this class: dataset/label.")
    ] = None,
    record: Annotated[
        list[str] | None,
        typer.Option("--record", help="Erase one record of --task: dataset/label:ordinal. May be repeated."),
    ] = None,
    task: Annotated[int | None, typer.Option(min=0, help="The task's number, as `braincl vault list` shows.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase a class or single records for good, and log it."""
    from braincl_med.vault.erase import single_records, warnings, whole_class
    from braincl_med.vault.folders import experiments
    from braincl_med.vault.vault import Vault

    if (dataset_label is None) == (not record) or (record and task is None):
        raise ConfigError(
            "what to erase is unclear: give --class dataset/label, or --task N --record dataset/label:M"
        )
    folders = experiments(vault)
    # An interrupted erasure that is asked for again finds nothing to erase, and must be finished all the same.
    for folder in folders:
        Vault(folder).finish()
    if dataset_label is not None:
        requests = whole_class(folders, dataset_label, task)
    else:
        requests = single_records(folders, record or [], task or 0)
    for warning in warnings(requests):
        typer.echo(warning, err=True)
    if not yes:
        for request in requests:
            typer.echo(request)
        typer.confirm("Erase for good? What networks learned from these scans stays.", abort=True)
    for request in requests:
        request.carry_out()
        typer.echo(f"erased {request}")
