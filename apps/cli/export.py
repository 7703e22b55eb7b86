"""`braincl export`: a network leaves this program."""

from pathlib import Path
from typing import Annotated

import typer

from apps.cli.options import StateOption, state_root


def export(
    experiment: Annotated[str, typer.Argument(help="The experiment's name.")],
    folder: Annotated[Path, typer.Argument(help="A new folder.", metavar="DIR")],
    state: StateOption = None,
) -> None:
    """Write an experiment's network into a folder: weights, ONNX, a MONAI bundle, a model card, and their digests."""
    from braincl_med.inference.export.folder import export as write

    done = write(state_root(state), experiment, folder.absolute())
    worst = max(done.compared.logits, done.compared.score)
    typer.echo(f"'{experiment}' written to '{folder.name}': {done.size:,} bytes, SHA-256 {done.digest}")
    typer.echo(f"ONNX answers {done.compared.scans} scans as PyTorch does, within {worst:.1e}")
