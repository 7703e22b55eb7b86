"""`braincl …`: run experiments, read their results, add diagnoses, audit vaults, open the dashboard."""

import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from apps.cli import deploy, privacy, scans, tasks, vault
from apps.cli.audit import audit
from apps.cli.bench import bench
from apps.cli.evaluate import evaluate
from apps.cli.export import export
from apps.cli.hospitals import hospitals
from apps.cli.options import OverrideOption, StateOption, load, state_root, writable
from apps.cli.predict import predict
from apps.cli.refusals import in_one_sentence
from apps.cli.report import report
from apps.cli.rollback import rollback
from apps.cli.start import start
from apps.cli.status import status
from apps.cli.trial import trial
from apps.cli.versions import versions
from braincl_med.foundation.errors import BrainclError
from braincl_med.foundation.processes import Interrupted, interruptible

app = typer.Typer(
    help="Hospitals learn new diagnoses together, one after another, without handing over or keeping their scans.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(deploy.app, name="deploy")
app.add_typer(privacy.app, name="privacy")
app.add_typer(scans.app, name="scans")
app.add_typer(tasks.app, name="tasks")
app.add_typer(vault.app, name="vault")


def main() -> None:
    """Entry point: whatever a person can mend becomes one sentence on standard error and exit status 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every look at the SuperLink
    reason = ""
    try:
        app()
    except BrainclError as error:
        reason = str(error)
    except ModuleNotFoundError as error:
        extras = "pip install '.[dashboard,privacy,bench,export]' in the project's folder installs all"
        reason = f"this command needs the package '{error.name}', not installed: {extras}"
    except (OSError, RuntimeError) as error:
        reason = in_one_sentence(error)
    if reason:
        typer.echo(f"braincl: {reason}", err=True)
        sys.exit(1)


@app.command()
def run(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a packaged experiment.")] = "demo",
    override: OverrideOption = None,
    state: StateOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete this experiment's former state first.")] = False,
    cores: Annotated[int, typer.Option(min=1, help="CPU cores of one hospital's training.")] = 2,
) -> None:
    """Run an experiment over simulated hospitals, from wherever it stands to its end."""
    try:
        with interruptible():
            from apps.cli.launcher import run_experiment

            experiment = load(config, override, state)
            experiment = experiment.model_copy(update={"resume": resume or experiment.resume})
            writable(experiment.state_folder)
            typer.echo(run_experiment(experiment, cores, fresh))
    except Interrupted as interrupted:
        typer.echo(
            f"braincl: {interrupted}: the same command with --resume, and without --fresh, continues", err=True
        )
        raise typer.Exit(interrupted.status) from None


@app.command()
def results(
    experiments: Annotated[list[str] | None, typer.Argument(help="Experiments' names; all when none.")] = None,
    state: StateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print accuracy, forgetting, fairness, rejection and bytes of experiments beside each other."""
    from braincl_med.records.examined import as_json as examination_json
    from braincl_med.records.examined import examined
    from braincl_med.records.standing import in_words, standing_of
    from braincl_med.records.store import RunStore
    from braincl_med.records.summary import as_json as to_json
    from braincl_med.records.summary import kebab, summarise
    from braincl_med.records.table import table

    store = RunStore(state_root(state))
    names = experiments or store.experiments()
    summaries, standings = [summarise(store, name) for name in names], [standing_of(store, name) for name in names]
    if as_json:
        found = [examined(store, name) for name in names]
        told = [
            {
                **to_json(summary),
                "standing": kebab(asdict(at)),
                "examination": examination_json(examination) if examination else None,
            }
            for summary, at, examination in zip(summaries, standings, found, strict=True)
        ]
        typer.echo(json.dumps(told, indent=2))
        return
    typer.echo(table(summaries))
    for standing in standings:
        if standing.status != "finished":
            typer.echo(f"\n{in_words(standing)}")


app.command()(bench)
app.command()(audit)
app.command()(evaluate)
app.command()(report)
app.command()(predict)
app.command()(export)
app.command()(hospitals)
app.command()(start)
app.command()(rollback)
app.command()(status)
app.command()(versions)
app.command("try")(trial)


@app.command()
def dashboard(
    state: StateOption = None,
    port: Annotated[int | None, typer.Option(help="Port on this machine.")] = None,
    limits: Annotated[
        Path | None, typer.Option("--limits", help="YAML file of what you ask of every diagnosis, for the verdict.")
    ] = None,
    host: Annotated[
        list[str] | None, typer.Option("--host", help="Name of a proxy before it, by which browsers ask. Repeatable.")
    ] = None,
    hospital: Annotated[
        str, typer.Option("--hospital", help="Show this hospital's view: no other is named, all others are one.")
    ] = "",
) -> None:
    """Open the dashboard over the run store."""
    import os
    from importlib.util import find_spec

    from apps.dashboard.launch import command
    from apps.dashboard.limits import read_limits

    if find_spec("streamlit") is None:
        raise ModuleNotFoundError(name="streamlit")
    if limits is not None:
        read_limits(limits)
    line = command(state_root(state).resolve(), port, limits.resolve() if limits else None, host or (), hospital)
    os.execv(line[0], line)  # in this process's place, so that what ends this one ends the server
