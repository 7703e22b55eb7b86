"""`braincl evaluate`: the network of an experiment, examined at its hospitals."""

from pathlib import Path
from typing import Annotated

import typer

from apps.cli.options import NetworkKeyOption, StateOption, VaultKeyOption, state_root


def evaluate(
    experiment: Annotated[str, typer.Argument(help="The experiment's name.")],
    state: StateOption = None,
    examined: Annotated[
        int | None,
        typer.Option("--examined", min=1, max=10_000, help="Scans of a class at most (stream-examined-per-class)."),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the scans, as data-root in a run.")] = None,
    vault_key: VaultKeyOption = "",
    network_key: NetworkKeyOption = "",
) -> None:
    """Examine a simulated experiment's network: calibration, unknown scans, rough conditions, features."""
    from braincl_med.federation.examine import examine, examined_config
    from braincl_med.federation.local import local_exchange, local_hospitals
    from braincl_med.records.examined import examined as latest
    from braincl_med.records.examined_table import in_words
    from braincl_med.records.store import RunStore

    root = state_root(state).resolve()
    keys = {"vault_key": vault_key, "network_key": network_key}
    config = examined_config(root, experiment, data_root=str(data.resolve()) if data else "", **keys)
    if examined is not None:
        stream = config.stream.model_copy(update={"examined_per_class": examined})
        config = config.model_copy(update={"stream": stream})
    typer.echo(examine(config, lambda here: local_exchange(local_hospitals(here))))
    found = latest(RunStore(root), experiment)
    if found is not None:
        typer.echo(in_words(found))
