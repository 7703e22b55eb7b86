"""`braincl try`: one scan at a time, in a browser on this machine."""

import os
from pathlib import Path
from typing import Annotated

import typer

from apps.cli.options import NetworkDirOption, NetworkKeyOption, StateOption, VaultKeyOption, keys_for, state_root


def trial(
    network: Annotated[
        str, typer.Argument(help="An experiment's name, or a folder that `braincl export` wrote.", metavar="NETWORK")
    ],
    vault: Annotated[
        Path | None, typer.Option("--vault", help="This hospital's vault: the memory most like a scan is shown.")
    ] = None,
    state: StateOption = None,
    vault_key: VaultKeyOption = "",
    network_key: NetworkKeyOption = "",
    network_dir: NetworkDirOption = None,
    port: Annotated[int | None, typer.Option(help="Port on this machine.")] = None,
) -> None:
    """Open a page on which a scan is answered and forgotten: answer, likeness, nearest memory."""
    from importlib.util import find_spec

    from apps.trial.launch import command
    from braincl_med.inference.opening import opened

    if find_spec("streamlit") is None:
        raise ModuleNotFoundError(name="streamlit")
    opened(network, state_root(state))
    keys_for(vault_key, network_key, network_dir)
    told = {
        "--vault-key": vault_key,
        "--network-key": network_key,
        "--network-dir": str(network_dir.resolve()) if network_dir else "",
    }
    named = str(Path(network).resolve()) if Path(network).exists() else network
    line = command(named, state_root(state).resolve(), vault.resolve() if vault else None, told, port)
    os.execv(line[0], line)  # in this process's place, so that what ends this one ends the server
