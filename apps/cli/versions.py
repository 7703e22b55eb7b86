"""`braincl versions`: which versions are installed, and which formats of files this program reads and writes."""

from platform import python_version
from typing import get_args

import typer


def versions() -> None:
    """Say which versions are installed, which work together, and which files are read."""
    from braincl_med.federation.checkpoint import VERSION as CHECKPOINT
    from braincl_med.federation.checkpoint import Version as Checkpoints
    from braincl_med.foundation.version import FLOWER_BELOW, FLOWER_FROM, installed, is_tested, program_version
    from braincl_med.records.schema import SCHEMA_VERSION
    from braincl_med.vault.cuefile import OF_OTHER_BASIS, READABLE
    from braincl_med.vault.cuefile import VERSION as CUES

    flower = installed("flwr")
    tested = "tested" if is_tested(flower) else "NOT TESTED"
    typer.echo(f"braincl-med {program_version()}")
    typer.echo(f"Python {python_version()}, at least 3.11")
    typer.echo(f"Flower {flower}, {tested}: from {FLOWER_FROM} on, below {FLOWER_BELOW}")
    for package in ("torch", "torchvision", "constriction", "numpy"):
        typer.echo(f"{package} {installed(package)}")
    read = f"{get_args(Checkpoints)[0]} to {get_args(Checkpoints)[-1]}"
    typer.echo(f"checkpoint: writes version {CHECKPOINT}, reads {read}")
    typer.echo(f"run store: writes version {SCHEMA_VERSION}, reads 1 to {SCHEMA_VERSION}")
    typer.echo(
        f"cue file: writes version {CUES}, {OF_OTHER_BASIS} with another basis; reads {READABLE[0]} to {READABLE[-1]}"
    )
