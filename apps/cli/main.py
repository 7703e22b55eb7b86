"""`braincl …`: run experiments, read their results, add diagnoses, audit vaults, open the dashboard."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from braincl_med.foundation.errors import BrainclError, ConfigError
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import load_experiment

app = typer.Typer(
    help="Hospitals learn new diagnoses together, one after another, without handing over or keeping their scans.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
tasks_app = typer.Typer(help="The diagnoses of an experiment.", no_args_is_help=True)
app.add_typer(tasks_app, name="tasks")
vault_app = typer.Typer(help="What a hospital keeps: list it, verify it, erase from it.", no_args_is_help=True)
app.add_typer(vault_app, name="vault")

StateOption = Annotated[
    Path | None, typer.Option("--state", help="State root (default: $BRAINCL_STATE, else ~/.braincl).")
]
VaultsArgument = Annotated[
    list[Path], typer.Argument(help="Hospitals' vault folders, or folders of one experiment.", metavar="DIR...")
]
OverrideOption = Annotated[
    list[str] | None, typer.Option("--set", "-c", help="Override a key: -c sleep-epochs=6. May be repeated.")
]


def main() -> None:
    """Entry point: errors meant for a person become one sentence on standard error and exit status 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        app()
    except BrainclError as error:
        typer.echo(f"braincl: {error}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        extras = "pip install '.[dashboard,privacy,bench]' in the project's folder installs all"
        typer.echo(f"braincl: this command needs the package '{error.name}', not installed: {extras}", err=True)
        sys.exit(1)


def _load(config: str, override: list[str] | None, state: Path | None) -> ExperimentConfig:
    pairs = dict(item.partition("=")[::2] for item in override or [])
    for key, value in pairs.items():
        if not value:
            raise ConfigError(f"'{key}' sets nothing: give -c {key}=value")
    if state is not None:
        pairs["state-root"] = str(state.resolve())
    return load_experiment(config, pairs)


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
    from apps.cli.launcher import run_experiment

    experiment = _load(config, override, state)
    experiment = experiment.model_copy(update={"resume": resume or experiment.resume})
    typer.echo(run_experiment(experiment, cores, fresh))


@app.command()
def results(
    experiments: Annotated[list[str] | None, typer.Argument(help="Experiments' names; all when none.")] = None,
    state: StateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print accuracy, forgetting, fairness, rejection and bytes of experiments beside each other."""
    from braincl_med.records.store import RunStore
    from braincl_med.records.summary import as_json as to_json
    from braincl_med.records.summary import summarise
    from braincl_med.records.table import table

    store = RunStore(_state(state))
    summaries = [summarise(store, name) for name in experiments or store.experiments()]
    typer.echo(json.dumps([to_json(s) for s in summaries], indent=2) if as_json else table(summaries))


@app.command()
def bench(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a packaged benchmark.")],
    state: StateOption = None,
    row: Annotated[list[str] | None, typer.Option("--row", help="This row alone. May be repeated.")] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", help="This seed alone. May be repeated.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time, each with an equal part of the cores; by default one a core."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--time-limit", min=0, help="Stop after so many minutes; the next call goes on.")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Run nothing, print what is there.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the table (.md), whose notes stay, and the picture (.png)."),
    ] = None,
) -> None:
    """Run methods x streams x seeds, each hospital in this machine; resumable; print one table."""
    import time

    from braincl_med.bench.cells import results_of, run_cells
    from braincl_med.bench.plan import cells_of, load_bench
    from braincl_med.bench.report import figure, markdown
    from braincl_med.foundation.devices import processes_at_a_time
    from braincl_med.foundation.files import write_whole

    plan = load_bench(config)
    for what, asked, known in (("row", row, [r.name for r in plan.rows]), ("seed", seed, plan.seeds)):
        if unknown := [one for one in asked or () if one not in known]:
            raise ConfigError(f"no {what} '{unknown[0]}' in '{plan.name}', it has: {', '.join(map(str, known))}")
    root, every = _state(state), list(cells_of(plan))
    wanted = [c for c in every if (not row or c.row.name in row) and (not seed or c.seed in seed)]
    rivals = {c.rival.name: c.rival for c in wanted if c.rival is not None}
    failures: list[str] = []
    if not report:
        deadline = None if minutes is None else time.monotonic() + 60 * minutes
        failures = run_cells(
            list({**rivals, **{c.name: c for c in wanted}}.values()),
            root,
            workers or processes_at_a_time(),
            deadline,
            lambda r: typer.echo(
                f"{r.cell.name}: last {r.summary.last_accuracy:.3f}, average {r.summary.average_accuracy:.3f}, "
                f"{r.kept_bytes:,} bytes, {r.summary.seconds:.0f} s"
            ),
        )
    results = results_of(every, root)
    written = out / f"{plan.name}.md" if out is not None else None
    former = written.read_text(encoding="utf-8") if written is not None and written.is_file() else ""
    page = markdown(plan, results, f"braincl bench {config}", former)
    typer.echo(page)
    if written is not None:
        write_whole(written, page.encode())
        try:
            if results:
                figure(plan, results).savefig(written.with_suffix(".png"), dpi=110)
        except ImportError:
            typer.echo("no picture: it needs matplotlib, pip install matplotlib", err=True)
    if failures:
        raise BrainclError(f"{len(failures)} of {len(every)} cells failed: {'; '.join(failures)}")


@tasks_app.command("add")
def tasks_add(
    experiment: Annotated[str, typer.Argument(help="The finished experiment's name.")],
    name: Annotated[str, typer.Argument(help="The new task's name.")],
    classes: Annotated[list[str], typer.Argument(help="Its classes, as dataset/label or dataset/class name.")],
    state: StateOption = None,
) -> None:
    """Append a new diagnosis to a finished experiment; the next run learns it and only it."""
    from braincl_med.federation.extend import add_task

    registry = add_task(_state(state), experiment, name, classes)
    added = registry.tasks[-1]
    typer.echo(f"task '{added.name}' added to '{experiment}': {', '.join(c.name for c in added.classes)}")
    typer.echo("the next run of this experiment learns it")


@tasks_app.command("list")
def tasks_list(
    experiment: Annotated[str, typer.Argument(help="The experiment's name.")], state: StateOption = None
) -> None:
    """List an experiment's tasks, their classes, and which are learned."""
    from braincl_med.federation.extend import existing

    checkpoint = existing(_state(state), experiment)
    for number, task in enumerate(checkpoint.registry.tasks):
        mark = "learned" if number < checkpoint.task else "to learn"
        typer.echo(f"{task.name} ({mark})")
        for row, spec in zip(checkpoint.registry.numbers(number), task.classes, strict=True):
            typer.echo(f"  {row:3d}  {spec.name}  [{spec.key}]")


@app.command()
def audit(
    vaults: Annotated[list[Path], typer.Argument(help="Hospitals' vault folders, or folders of one experiment.")],
    scans: Annotated[
        Path | None, typer.Option("--scans", help="Raw scans to search for and compare, written by `braincl scans`.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for audit.json and audit.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    state: Annotated[Path | None, typer.Option("--state", help="State root that records the audit.")] = None,
) -> None:
    """Check that vaults hold sound memories and nothing else; exit status 1 when a check fails."""
    from braincl_med.foundation.files import write_whole
    from braincl_med.privacy.audit import audit as audit_vaults
    from braincl_med.privacy.audit import passed, record
    from braincl_med.privacy.fidelity import load_scans
    from braincl_med.privacy.page import html, text
    from braincl_med.records.store import now

    if out is not None and any(out.resolve().is_relative_to(vault.resolve()) for vault in vaults):
        raise ConfigError(f"'{out.name}' lies in a vault, where nothing but memories may be: choose another folder")
    report = audit_vaults(vaults, None if scans is None else load_scans(scans))
    typer.echo(json.dumps(report, indent=2) if as_json else text(report))
    if out is not None:
        write_whole(out / "audit.json", json.dumps(report, indent=2).encode())
        write_whole(out / "audit.html", html(report, now()).encode())
    record(report, vaults, state)
    if not passed(report):
        raise typer.Exit(1)


@vault_app.command("list")
def vault_list(
    vaults: VaultsArgument, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List each task's memory: its classes, records, and bytes by item."""
    from braincl_med.vault.folders import experiments
    from braincl_med.vault.listing import listing, table

    rows = [row for vault in vaults for folder in experiments(vault) for row in listing(folder)]
    typer.echo(json.dumps(rows, indent=2) if as_json else table(rows))


@vault_app.command("verify")
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


@vault_app.command("erase")
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


@app.command()
def scans(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a packaged experiment.")],
    site: Annotated[int, typer.Option("--site", help="The simulated hospital's number.")],
    out: Annotated[Path, typer.Option("--out", help="The file (.npz) to write, outside the state root.")],
    override: OverrideOption = None,
    state: StateOption = None,
) -> None:
    """Write a simulated hospital's raw training scans to a file, to audit its vault against them."""
    from braincl_med.privacy.fidelity import export_scans

    written = export_scans(_load(config, override, state), site, out)
    typer.echo(f"{len(written):,} raw scans written to '{out.name}': protect it, and delete it after the audit")


@app.command()
def dashboard(
    state: StateOption = None, port: Annotated[int | None, typer.Option(help="Port on this machine.")] = None
) -> None:
    """Open the dashboard over the run store."""
    import subprocess
    from importlib.util import find_spec

    from apps.dashboard.launch import command

    if find_spec("streamlit") is None:
        raise ModuleNotFoundError(name="streamlit")
    raise typer.Exit(subprocess.call(command(_state(state).resolve(), port)))


def _state(state: Path | None) -> Path:
    return ExperimentConfig(state_root=str(state or "")).state_folder
