"""`braincl tasks …`: the diagnoses of an experiment."""

from pathlib import Path
from typing import Annotated

import typer

from apps.cli.options import StateOption, state_root
from braincl_med.settings.config import ExperimentConfig
from braincl_med.streams.tasks import ClassSpec

app = typer.Typer(help="The diagnoses of an experiment.", no_args_is_help=True)


@app.command("add")
def tasks_add(
    experiment: Annotated[str, typer.Argument(help="The finished experiment's name.")],
    name: Annotated[str, typer.Argument(help="The new task's name.")],
    classes: Annotated[list[str], typer.Argument(help="Its classes: dataset/label, dataset/class name, own/name.")],
    state: StateOption = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of scans, as data-root (default: $BRAINCL_DATA).")
    ] = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Do not look for its scans, which only the hospitals hold.")
    ] = False,
) -> None:
    """Append a new diagnosis to a finished experiment; the next run learns it and only it."""
    from braincl_med.federation.extend import add_task

    folder = ExperimentConfig(data_root=str(data or "")).data_folder
    registry = add_task(state_root(state), experiment, name, classes, folder, look=not unchecked)
    added = registry.tasks[-1]
    typer.echo(f"task '{added.name}' added to '{experiment}': {', '.join(map(_named, added.classes))}")
    if unchecked:
        typer.echo("its scans were not looked for: a hospital without them fails in the next run")
    typer.echo("the next run of this experiment learns it")


@app.command("remove")
def tasks_remove(
    experiment: Annotated[str, typer.Argument(help="The experiment's name.")],
    name: Annotated[str, typer.Argument(help="The last task's name.")],
    state: StateOption = None,
) -> None:
    """Take back the last diagnosis of an experiment, as long as nobody has begun to learn it."""
    from braincl_med.federation.extend import remove_task

    registry = remove_task(state_root(state), experiment, name)
    typer.echo(f"task '{name}' removed from '{experiment}', which has {len(registry.tasks)} left")


@app.command("retrain")
def tasks_retrain(
    experiment: Annotated[str, typer.Argument(help="The experiment's name.")], state: StateOption = None
) -> None:
    """Let the next run sleep once more on what hospitals' vaults hold now, such as after an erasure."""
    from braincl_med.federation.retrain import queue_consolidation

    typer.echo(queue_consolidation(state_root(state), experiment))


@app.command("list")
def tasks_list(
    experiment: Annotated[str, typer.Argument(help="The experiment's name.")], state: StateOption = None
) -> None:
    """List an experiment's tasks, their classes, and which are learned."""
    from braincl_med.federation.extend import existing

    checkpoint = existing(state_root(state), experiment)
    for number, task in enumerate(checkpoint.registry.tasks):
        mark = "learned" if number < checkpoint.task else "to learn"
        typer.echo(f"{task.name} ({mark})")
        for row, spec in zip(checkpoint.registry.numbers(number), task.classes, strict=True):
            typer.echo(f"  {row:3d}  {_named(spec)}  [{spec.key}]")


def _named(spec: ClassSpec) -> str:
    return f"{spec.name} ({spec.code})" if spec.code else spec.name
