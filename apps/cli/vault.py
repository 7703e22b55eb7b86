"""`braincl vault …`: what a hospital keeps."""

import json
from pathlib import Path
from typing import Annotated

import typer

from apps.cli.options import NetworkDirOption, NetworkKeyOption, VaultKeyOption, keys_for
from braincl_med.foundation.errors import ConfigError, SealedError

app = typer.Typer(
    help="What a hospital keeps: list it, verify it, erase from it, tidy it, seal it.", no_args_is_help=True
)

VaultsArgument = Annotated[
    list[Path], typer.Argument(help="Hospitals' vault folders, or folders of one experiment.", metavar="DIR...")
]


@app.command("list")
def vault_list(
    vaults: VaultsArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    vault_key: VaultKeyOption = "",
    network_key: NetworkKeyOption = "",
    network_dir: NetworkDirOption = None,
) -> None:
    """List each task's memory: its classes, records, bytes by item, and whether it is sealed.

    Classes and records of a sealed vault need its vault-key, not its network-key.
    """
    from braincl_med.vault.folders import experiments
    from braincl_med.vault.listing import listing, table
    from braincl_med.vault.vault import Vault

    keys = keys_for(vault_key, network_key, network_dir)
    rows = [row for vault in vaults for folder in experiments(vault) for row in listing(Vault(folder, keys))]
    typer.echo(json.dumps(rows, indent=2) if as_json else table(rows))


@app.command("verify")
def vault_verify(
    vaults: VaultsArgument,
    vault_key: VaultKeyOption = "",
    network_key: NetworkKeyOption = "",
    network_dir: NetworkDirOption = None,
) -> None:
    """Read and decode all that is committed, writing nothing; exit status 1 when something cannot be relied on.

    Of a sealed vault without its keys only structure, place and checksums are looked at.
    """
    from braincl_med.vault.folders import experiments
    from braincl_med.vault.vault import Vault
    from braincl_med.vault.verify import verify

    keys = keys_for(vault_key, network_key, network_dir)

    sound = True
    for folder in [folder for vault in vaults for folder in experiments(vault)]:
        for finding in verify(Vault(folder, keys)):
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
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Let the next run train the shared network again on what remains.")
    ] = False,
    vault_key: VaultKeyOption = "",
    network_key: NetworkKeyOption = "",
    network_dir: NetworkDirOption = None,
) -> None:
    """Erase a class or single records for good, and log it."""
    from braincl_med.vault.erase import single_records, warnings, whole_class
    from braincl_med.vault.folders import experiments
    from braincl_med.vault.vault import Vault

    if (dataset_label is None) == (not record) or (record and task is None):
        raise ConfigError(
            "what to erase is unclear: give --class dataset/label, or --task N --record dataset/label:M"
        )
    keys = keys_for(vault_key, network_key, network_dir, plain_too=False)
    opened = [Vault(folder, keys) for folder in experiments(vault)]
    # An interrupted erasure that is asked for again finds nothing to erase, and must be finished all the same.
    for held in opened:
        held.finish()
    if dataset_label is not None:
        requests = whole_class(opened, dataset_label, task)
    else:
        requests = single_records(opened, record or [], task or 0)
    for warning in warnings(requests):
        typer.echo(warning, err=True)
    if not yes:
        for request in requests:
            typer.echo(request)
        typer.confirm("Erase for good? What networks learned from these scans stays.", abort=True)
    for request in requests:
        lost = request.carry_out().refit_lost_db
        cost = "" if lost is None else f"; memory fitted anew to what remains, about {lost:.1f} dB lost"
        typer.echo(f"erased {request}{cost}")
    for folder in sorted({request.vault.folder for request in requests}) if retrain else ():
        _queue(folder)


def _queue(folder: Path) -> None:
    """Let the next run of an experiment sleep again, where the server's state lies beside the vault."""
    from braincl_med.federation.checkpoint import NAME
    from braincl_med.federation.retrain import queue_consolidation
    from braincl_med.foundation.places import server_folder

    state = folder.parent.parent
    if (server_folder(state, folder.name) / NAME).is_file():
        typer.echo(queue_consolidation(state, folder.name))
    else:
        typer.echo(f"the server is elsewhere: there, `braincl tasks retrain {folder.name}` queues a consolidation")


@app.command("tidy")
def vault_tidy(
    vaults: VaultsArgument,
    vault_key: VaultKeyOption = "",
    network_key: NetworkKeyOption = "",
    network_dir: NetworkDirOption = None,
) -> None:
    """Take out of the networks what no record uses, as former versions left it there; recalls stay as they are."""
    from braincl_med.vault.folders import experiments
    from braincl_med.vault.vault import Vault

    keys = keys_for(vault_key, network_key, network_dir, plain_too=False)
    for folder in [folder for vault in vaults for folder in experiments(vault)]:
        count = Vault(folder, keys).tidy()
        written = f"{count:,} {'file' if count == 1 else 'files'} written again" if count else "nothing to tidy"
        typer.echo(f"{folder.parent.name}/{folder.name}: {written}")


@app.command("seal")
def vault_seal(
    vaults: VaultsArgument,
    vault_key: VaultKeyOption = "",
    network_key: NetworkKeyOption = "",
    network_dir: NetworkDirOption = None,
    from_key: Annotated[
        str, typer.Option("--from-key", metavar="PLACE", help="The former vault-key of vaults that are sealed.")
    ] = "",
    from_network_key: Annotated[
        str, typer.Option("--from-network-key", metavar="PLACE", help="Their former network-key, if they had one.")
    ] = "",
    hospital: Annotated[
        str, typer.Option("--hospital", help="The hospital's name (default: the vault's folder's, or as sealed).")
    ] = "",
) -> None:
    """Seal plain vaults, or sealed ones anew under other keys, each experiment at once.

    Afterwards the vault is read and written with these keys alone. An experiment that has them already is left alone.
    """
    from dataclasses import replace

    from braincl_med.vault.folders import experiments
    from braincl_med.vault.vault import Vault

    new = keys_for(vault_key, network_key, network_dir, plain_too=False)
    if new.vault is None:
        raise ConfigError("nothing says which key shall seal the vault: give --vault-key")
    former = keys_for(from_key, from_network_key, network_dir)
    own = tuple(key.id for key in (new.vault, new.network) if key is not None)
    for folder in [folder for vault in vaults for folder in experiments(vault)]:
        vault = Vault(folder, former)
        vault.finish()  # an interrupted sealing that is asked for again may have left plain files
        manifest, place = vault.manifest(), f"{folder.parent.name}/{folder.name}"
        sealed = [entry.seal for entry in manifest.entries if entry.seal is not None]
        name = hospital or next(iter(sorted(manifest.hospitals)), folder.parent.name)
        if not manifest.entries:
            typer.echo(f"{place}: no memories")
            continue
        if len(sealed) == len(manifest.entries) and all((s.keys, s.hospital) == (own, name) for s in sealed):
            typer.echo(f"{place}: sealed under {' and '.join(own)} already")
            continue
        try:
            count = vault.seal(replace(new, hospital=name))
        except SealedError as error:
            raise SealedError(f"{error}, here as --from-key or --from-network-key") from None
        tasks = f"{count:,} {'task' if count == 1 else 'tasks'}"
        typer.echo(f"{place}: {tasks} sealed under {' and '.join(own)} as those of {name!r}")
