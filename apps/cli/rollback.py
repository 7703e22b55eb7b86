"""`braincl rollback`: an experiment set back to one of its former checkpoints."""

from typing import Annotated

import typer

from apps.cli.options import StateOption, state_root


def rollback(
    experiment: Annotated[str, typer.Argument(help="The experiment's name.")],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="TASK[/PHASE[/ROUND]]", help="What to learn again; lists when left out."),
    ] = None,
    state: StateOption = None,
) -> None:
    """Set an experiment back to a former checkpoint; the next run learns again from there."""
    from braincl_med.federation.rollback import go_back, points_of

    if to is not None:
        typer.echo(go_back(state_root(state), experiment, to))
        return
    points = points_of(state_root(state), experiment)
    for point in points:
        typer.echo(f"{point.name}  ({point})")
    if not points:
        typer.echo(f"'{experiment}' keeps no former checkpoint yet")
