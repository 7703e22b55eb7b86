"""`braincl privacy …`: what a hospital has released under differential privacy."""

import json
from pathlib import Path
from typing import Annotated

import typer

from braincl_med.foundation.errors import VaultError

app = typer.Typer(help="What a hospital has released under differential privacy.", no_args_is_help=True)


@app.command("ledger")
def ledger(
    hospital: Annotated[Path, typer.Argument(help="A hospital's folder of vaults.", metavar="DIR")],
    delta: Annotated[float, typer.Option(min=1e-12, max=1e-3, help="At which ε is counted.")] = 1e-5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every release of a hospital with the ε that all releases up to it have spent."""
    from braincl_med.dp.ledger import Ledger, cost

    if not hospital.is_dir():
        raise VaultError(f"there is no folder '{hospital.name}': give a hospital's folder, in which its vaults lie")
    entries = Ledger(hospital, float("inf"), delta).entries()
    spent = [cost(entries[: number + 1], delta) for number in range(len(entries))]
    if as_json:
        rows = [
            {**entry.model_dump(mode="json"), "epsilon": epsilon}
            for entry, epsilon in zip(entries, spent, strict=True)
        ]
        typer.echo(json.dumps({"delta": delta, "epsilon": spent[-1] if spent else 0.0, "releases": rows}, indent=2))
        return
    for number, (entry, epsilon) in enumerate(zip(entries, spent, strict=True), 1):
        sampled = f", 1 scan in {1 / entry.rate:.0f} in each of {entry.steps} steps" if entry.rate < 1 else ""
        typer.echo(
            f"{number:4d}  {entry.experiment}, task {entry.task + 1}, {entry.phase} {entry.round + 1}: {entry.scans} "
            f"scans of {len(entry.classes)} classes, by {entry.unit}, noise {entry.multiplier:.2f}{sampled}"
            f"{'' if entry.answer else ' (interrupted)'}; ε = {epsilon:.3f} so far"
        )
    typer.echo(f"ε = {spent[-1] if spent else 0:.3f} at δ = {delta:g} over {len(entries)} releases")
