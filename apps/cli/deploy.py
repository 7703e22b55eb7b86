"""`braincl deploy …`: a server and hospitals on machines of their own."""

import os
from pathlib import Path
from typing import Annotated

import typer

from apps.cli.options import OverrideOption, load
from apps.deploy.layout import PORT
from braincl_med.foundation.processes import Interrupted, interruptible

app = typer.Typer(
    help="Set up, check, renew and start a server and hospitals on machines of their own (docs/deploy.md).",
    no_args_is_help=True,
    add_completion=False,
)
Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The server's folder, a hospital's, or that around them.")
]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    hospitals: Annotated[int, typer.Option(min=1, max=1000, help="How many hospitals take part.")],
    server: Annotated[str, typer.Option(metavar="HOST", help="The server's name or IPv4 address.")],
    port: Annotated[int, typer.Option(min=1024, max=60000, help="Of the server, for hospitals.")] = PORT,
    proxy: Annotated[
        bool | None, typer.Option("--proxy/--no-proxy", help="nginx before the SuperLink (default: yes).")
    ] = None,
) -> None:
    """Write a folder for the server and one for each hospital: keys, certificates, settings, units."""
    from apps.deploy.init import initialise
    from apps.deploy.layout import Server, read_settings

    initialise(folder, server, hospitals, port, proxy)
    typer.echo(f"written: server, {hospitals} hospitals; '{folder.name}/README.md' says which folder goes to whom")
    written = read_settings(folder / "server")
    if isinstance(written, Server) and not written.proxy:
        typer.echo("without nginx (not installed here, or --no-proxy): every user of this machine can submit runs")


@app.command()
def up(
    folder: Folder,
    only: Annotated[str, typer.Option(metavar="PART", help="Become this one program (for systemd).")] = "",
) -> None:
    """Start what lies in FOLDER, and stay until it ends."""
    from apps.deploy import up as programs

    if only:
        programs.replace_by(folder, only)
    try:
        with interruptible():
            programs.up(folder, lambda line: print(line, flush=True))
    except Interrupted as interrupted:
        raise typer.Exit(interrupted.status) from None


@app.command()
def run(
    folder: Folder,
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a packaged experiment.")] = "demo",
    override: OverrideOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Run an experiment over the federation whose server's folder this is, and follow it."""
    from apps.deploy.submit import server_in, state_for, submit

    server_folder, server = server_in(folder)
    experiment = load(config, [f"federation-hospitals={server.hospitals}", *(override or [])], None)
    state = state_for(server_folder, server)
    experiment = experiment.model_copy(update={"resume": resume or experiment.resume, "state_root": str(state)})
    try:
        with interruptible():
            typer.echo(submit(server_folder, experiment))
            typer.echo(f"braincl results {experiment.name} --state {os.path.relpath(state)}")
    except Interrupted:
        typer.echo("no longer followed; the run goes on: the server's log tells of it", err=True)
        raise typer.Exit(1) from None


@app.command()
def enrol(folder: Folder) -> None:
    """Tell the running SuperLink which hospitals' keys lie in the server's nodes/, and which no longer do."""
    from apps.deploy.enrol import enrol as enrolled
    from apps.deploy.submit import server_in

    typer.echo("\n".join(enrolled(*server_in(folder)) or ["nothing has changed"]))


@app.command()
def renew(
    folder: Folder,
    hospital: Annotated[list[str] | None, typer.Option(help="Renew this hospital's node key too.")] = None,
) -> None:
    """A new certificate for the server, or a new node key for the hospital whose folder this is."""
    from apps.deploy.renew import renew as renewed

    typer.echo("\n".join(renewed(folder, hospital or [])))


@app.command()
def check(folder: Folder) -> None:
    """Say what is wrong with a folder and this machine; exit status 1 if anything is."""
    from apps.deploy.checks import findings_of
    from apps.deploy.layout import parts_in

    wrong = False
    for part in parts_in(folder):
        for finding in findings_of(part):
            typer.echo(f"{part.name}: {finding.line()}")
            wrong |= not finding.ok
    if wrong:
        raise typer.Exit(1)
