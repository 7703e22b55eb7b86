"""`braincl bench`: methods, streams and seeds beside each other."""

from pathlib import Path
from typing import Annotated

import typer

from apps.cli.options import StateOption, state_root, writable
from braincl_med.foundation.errors import BrainclError


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
    from braincl_med.bench.plan import cells_of, chosen, load_bench
    from braincl_med.bench.report import figure, markdown
    from braincl_med.foundation.devices import processes_at_a_time
    from braincl_med.foundation.files import write_whole

    plan = load_bench(config)
    root, cells = state_root(state), chosen(plan, row or (), seed or ())
    failures: list[str] = []
    if not report:
        writable(root)
        deadline = None if minutes is None else time.monotonic() + 60 * minutes
        failures = run_cells(
            cells,
            root,
            workers or processes_at_a_time(),
            deadline,
            lambda r: typer.echo(
                f"{r.cell.name}: last {r.summary.last_accuracy:.3f}, average {r.summary.average_accuracy:.3f}, "
                f"{r.kept_bytes:,} bytes, {r.summary.seconds:.0f} s"
            ),
        )
    results = results_of(list(cells_of(plan)), root)
    written = out / f"{plan.name}.md" if out is not None else None
    former = written.read_text(encoding="utf-8") if written is not None and written.is_file() else ""
    page = markdown(plan, results, f"braincl bench {config}", former)
    typer.echo(page)
    if written is not None:
        write_whole(written, page.encode(), shared=True)
        try:
            if results:
                figure(plan, results).savefig(written.with_suffix(".png"), dpi=110)
        except ImportError:
            typer.echo("no picture: it needs matplotlib, pip install matplotlib", err=True)
    if failures:
        raise BrainclError(f"{len(failures)} of {len(cells)} cells failed: {'; '.join(failures)}")
