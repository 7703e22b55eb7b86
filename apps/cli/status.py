"""`braincl status`: whether experiments run, where they stand, and when they last gave a sign of life."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from apps.cli.options import StateOption, state_root


def status(
    experiment: Annotated[str | None, typer.Argument(help="The experiment's name; all when none.")] = None,
    state: StateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether experiments run, where they stand, who is missing, and how long is to go.

    Ends with 1 if one of them has failed or stopped.
    """
    from braincl_med.records.standing import in_words, standing_of
    from braincl_med.records.store import RunStore
    from braincl_med.records.summary import kebab

    store = RunStore(state_root(state))
    standings = [standing_of(store, name) for name in ([experiment] if experiment else store.experiments())]
    if as_json:
        typer.echo(json.dumps([kebab(asdict(standing)) for standing in standings], indent=2))
    else:
        typer.echo("\n".join(map(in_words, standings)) or "no experiments yet")
    if not all(standing.well for standing in standings):
        raise typer.Exit(1)
