"""`braincl bench`: methods, streams and seeds beside each other."""

from pathlib import Path
from typing import Annotated

import typer

from apps.cli.options import StateOption, state_root, writable
from braincl_med.foundation.errors import BrainclError, ConfigError


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
    root, every = state_root(state), list(cells_of(plan))
    wanted = [c for c in every if (not row or c.row.name in row) and (not seed or c.seed in seed)]
    rivals = {c.rival.name: c.rival for c in wanted if c.rival is not None}
    failures: list[str] = []
    if not report:
        writable(root)
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
        write_whole(written, page.encode(), shared=True)
        try:
            if results:
                figure(plan, results).savefig(written.with_suffix(".png"), dpi=110)
        except ImportError:
            typer.echo("no picture: it needs matplotlib, pip install matplotlib", err=True)
    if failures:
        raise BrainclError(f"{len(failures)} of {len(every)} cells failed: {'; '.join(failures)}")
