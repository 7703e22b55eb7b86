"""`braincl scans …`: what a hospital's own folder of scans holds, and raw scans to audit a vault against."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.cli.options import OverrideOption, StateOption, load

if TYPE_CHECKING:
    from braincl_med.scans.index import Findings

app = typer.Typer(help="A hospital's raw scans.", no_args_is_help=True)
SHOWN = 5


@app.command("check")
def scans_check(
    folder: Annotated[
        Path, typer.Argument(help="A folder of class folders or with a manifest.csv, or one above it.")
    ],
    every: Annotated[
        bool, typer.Option("--all", help="Name every refused file, not only the first of a kind.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look through a hospital's own scans before anything is learned; nothing is written or sent.

    Files are named on this terminal alone. The exit status is 1 if some are no scans to learn from, or none is.
    """
    from braincl_med.foundation.progress import bar
    from braincl_med.scans.index import Index
    from braincl_med.scans.listing import list_scans
    from braincl_med.streams.own import SPLIT_SEED, sets_in

    reports, unfit = [], False
    for place in sets_in(folder):
        with Index(None) as index:
            found = index.look_through(place.name, list_scans(place), SPLIT_SEED, bar("looking into scans", "file"))
        named = place.name if place.parent in (folder, folder.parent) else f"{place.parent.name}/{place.name}"
        reports.append(_report(named, found, None if every else SHOWN))
        unfit = unfit or bool(found.refused) or not found.scans
        if not as_json:
            typer.echo(_written(reports[-1]))
    if as_json:
        typer.echo(json.dumps(reports, indent=2))
    if unfit:
        raise typer.Exit(1)


def _report(name: str, found: "Findings", shown: int | None) -> dict[str, Any]:
    """What was found: counts by class and split, formats, sizes, and refused files by kind and reason."""
    classes: dict[str, Counter[str]] = defaultdict(Counter)
    for scan in found.scans:
        classes[scan.entry.label][scan.split] += 1
    refused: dict[str, dict[str, Any]] = {}
    for entry, error in found.refused:
        of_kind = refused.setdefault(error.kind.value, {"count": 0, "files": []})
        of_kind["count"] += 1
        if shown is None or len(of_kind["files"]) < shown:
            frame = {} if entry.frame is None else {"frame": entry.frame}
            of_kind["files"].append({"name": entry.name, **frame, "reason": error.reason})
    sides = [side for scan in found.scans for side in (scan.known.width, scan.known.height)]
    return {
        "set": name,
        "scans": len(found.scans),
        "patients": len({scan.patient for scan in found.scans if scan.patient != scan.known.content}),
        "classes": {
            label: {s: counts[s] for s in ("train", "val", "test")} for label, counts in sorted(classes.items())
        },
        "formats": dict(Counter(scan.known.format for scan in found.scans).most_common()),
        "pixels a side": [min(sides), max(sides)] if sides else [],
        "refused": refused,
    }


def _written(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    classes = report["classes"]
    width = max([5, *map(len, classes)])
    patients = f"of {report['patients']:,} patients" if report["patients"] else "no patients named"
    lines = [f"{report['set']}: {report['scans']:,} scans, {patients}", ""]
    lines.append(f"  {'class':{width}}  {'train':>8} {'val':>8} {'test':>8}")
    lines += [f"  {label:{width}}  {c['train']:8,} {c['val']:8,} {c['test']:8,}" for label, c in classes.items()]
    lines += ["", "  formats: " + (", ".join(f"{n:,} {kind}" for kind, n in report["formats"].items()) or "none")]
    if report["pixels a side"]:
        least, most = report["pixels a side"]
        lines.append(f"  sides: {least:,} to {most:,} pixels")
    for kind, told in report["refused"].items():
        lines += ["", f"  refused, {kind}: {told['count']:,}"]
        for file in told["files"]:
            frame = f", frame {file['frame']}" if "frame" in file else ""
            lines.append(f"    {file['name']!r}{frame}: {file['reason']}")
        if (more := told["count"] - len(told["files"])) > 0:
            lines.append(f"    and {more:,} more (--all names them)")
    if not report["refused"]:
        lines += ["", "  nothing is refused" if report["scans"] else "  there are no scans here"]
    return "\n".join(lines) + "\n"


@app.command("export")
def scans_export(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a packaged experiment.")],
    site: Annotated[int, typer.Option("--site", help="The simulated hospital's number.")],
    out: Annotated[Path, typer.Option("--out", help="The file (.npz) to write, outside the state root.")],
    override: OverrideOption = None,
    state: StateOption = None,
) -> None:
    """Write a simulated hospital's raw training scans to a file, to audit its vault against them."""
    from braincl_med.privacy.given import export_scans

    written = export_scans(load(config, override, state), site, out)
    typer.echo(f"{len(written):,} raw scans written to '{out.name}': protect it, and delete it after the audit")
