"""`braincl predict`: what a network says of scans."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from apps.cli.options import StateOption, state_root
from braincl_med.foundation.errors import DataError

Item = TypeVar("Item")


class Format(StrEnum):
    """How rows are written."""

    CSV = "csv"
    JSON = "json"


def predict(
    network: Annotated[
        str, typer.Argument(help="An experiment's name, or a folder that `braincl export` wrote.", metavar="NETWORK")
    ],
    scans: Annotated[list[Path], typer.Argument(help="Pictures, DICOM files, folders of them.", metavar="SCAN...")],
    state: StateOption = None,
    kind: Annotated[Format, typer.Option("--format", help="How rows are written.")] = Format.CSV,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write, not among scans (default: standard output).")
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option("--explain", help="A new folder, for pictures of what each answer hangs on."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, max=1024, help="Scans answered at a time.")] = 64,
    strict: Annotated[bool, typer.Option("--strict", help="End with status 1 if any file was refused.")] = False,
) -> None:
    """Answer scans: class, calibrated probability, the top three, or that a person must read it.

    Exit status 1 when every file was refused, with --strict when any was.
    """
    from braincl_med.foundation.files import write_whole
    from braincl_med.inference.answer import Verdict
    from braincl_med.inference.explain import Explainer
    from braincl_med.inference.opening import opened
    from braincl_med.inference.places import require_free
    from braincl_med.inference.predict import Row
    from braincl_med.inference.predict import predict as answer
    from braincl_med.inference.reading import files_of
    from braincl_med.inference.table import csv_lines, json_text

    model = opened(network, state_root(state))
    files = list(files_of(scans))
    if not files:
        raise DataError("there is no file to answer: name pictures, DICOM files or folders that hold some")
    require_free(scans, files, out, explain)
    counts = dict.fromkeys(Verdict, 0)

    def counted(rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            counts[row.verdict] += 1
            yield row

    explainer = Explainer(model, explain) if explain is not None else None
    rows = counted(_shown(answer(model, files, batch, explainer), len(files)))
    written = csv_lines(model, rows) if kind is Format.CSV else [json_text(model, rows)]
    if out is None:
        for piece in written:
            typer.echo(piece, nl=False)
    else:
        write_whole(out.absolute(), b"".join(written), shared=True)
    if model.caution:
        typer.echo(f"braincl: {model.caution}", err=True)
    told = ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items() if count)
    typer.echo(f"{len(files):,} files: {told}", err=True)
    refused = counts[Verdict.REFUSED]
    if refused == len(files) or (strict and refused):
        raise typer.Exit(1)


def _shown(rows: Iterable[Item], total: int) -> Iterator[Item]:
    """The rows, with a progress bar on a terminal."""
    from tqdm import tqdm

    yield from tqdm(rows, total=total, unit="scan", disable=None, leave=False)
