"""`braincl hospitals`: who has answered in an experiment, and whose name is bound to which node."""

from typing import Annotated

import typer

from apps.cli.options import StateOption, state_root

SHOWN = 16
"""Characters of a key's digest."""


def hospitals(
    experiment: Annotated[str, typer.Argument(help="The experiment's name.")],
    release: Annotated[
        str, typer.Option(help="Let the next node that answers under this name have it, after a node was replaced.")
    ] = "",
    state: StateOption = None,
) -> None:
    """List an experiment's hospitals and the nodes' keys that their names are bound to, or release a name."""
    from braincl_med.federation.checkpoint import folder_of
    from braincl_med.federation.extend import existing, held
    from braincl_med.federation.members import Member, read_members, write_members

    root = state_root(state)
    folder = folder_of(root, experiment)
    if release:
        with held(root, experiment):
            write_members(folder, read_members(folder).released(release))
        typer.echo(f"'{release}' of '{experiment}' is bound to no node: the next that answers under it takes it")
        return
    names, members = existing(root, experiment).hospitals, read_members(folder).members
    for name in sorted({*names, *members}):
        key = members.get(name, Member()).key
        typer.echo(f"{name}  {f'bound to key {key[:SHOWN]}' if key else 'bound to no key'}")
