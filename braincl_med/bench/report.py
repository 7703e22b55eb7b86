"""A benchmark's results as Markdown and as a picture."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from braincl_med.bench.cells import Result
from braincl_med.bench.examined import examined_table, spread
from braincl_med.bench.plan import BenchConfig
from braincl_med.foundation.devices import accelerator_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEADINGS = (
    "method", "last %", "average %", "forgetting %", "worst class %", "of the first row's last", "kept", "a sample",
    "seconds", "peak memory", "seeds",
)  # fmt: skip


def markdown(bench: BenchConfig, results: Sequence[Result], command: str, former: str = "") -> str:
    """Tables of all streams: means over seeds, ± the standard deviation where there are several.

    Args:
        bench: the plan; rows without a finished cell are said to be missing.
        results: finished cells.
        command: that made them.
        former: the page as it is, whose notes stay: what somebody wrote between its head and its first table.
    """
    lines = [
        f"# {bench.name}",
        "",
        f"`{command}`, seeds {', '.join(map(str, bench.seeds))}; {_machine()}; {datetime.now(UTC):%Y-%m-%d}.",
        f"A row alone: `{command} --row NAME`. ± is the standard deviation over seeds; blank: not measured.",
        "",
        *_notes(former),
    ]
    for stream in bench.streams:
        mine = [r for r in results if r.cell.stream == stream]
        lines += [f"## {stream}", "", *([f"{mine[0].summary.data}.", ""] if mine else []), *_table(bench, mine), ""]
        if mine:
            lines += [*_curves(bench, mine), *examined_table(bench, mine), "", *_items(bench, mine), ""]
    return "\n".join(lines).rstrip() + "\n"


def _notes(page: str) -> list[str]:
    """The lines of a page between its head, which is a heading and a paragraph, and its first table's heading."""
    lines = page.splitlines()
    blank = [n for n, line in enumerate(lines) if not line]
    start = blank[1] + 1 if len(blank) > 1 else len(lines)
    end = next((n for n, line in enumerate(lines) if n >= start and line.startswith("## ")), len(lines))
    return lines[start:end]


def _table(bench: BenchConfig, results: Sequence[Result]) -> list[str]:
    lines = [f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
    first = {r.cell.seed: r.summary.last_accuracy for r in results if r.cell.row == bench.rows[0]}
    for row in bench.rows:
        mine = [r for r in results if r.cell.row == row]
        if not mine:
            lines.append(f"| {row.name} |{' |' * (len(HEADINGS) - 2)} 0 of {len(bench.seeds)} |")
            continue
        ratios = [
            (r.summary.last_accuracy or 0) / of for r in mine if (of := first.get(r.cell.seed)) is not None and of > 0
        ]
        samples = [r.summary.bytes_per_sample for r in mine if r.summary.bytes_per_sample]
        kept = "all scans" if mine[0].summary.keeps_raw_scans else _size(float(np.mean([r.kept_bytes for r in mine])))
        values = (
            row.name,
            _percent([r.summary.last_accuracy for r in mine]),
            _percent([r.summary.average_accuracy for r in mine]),
            _percent([r.summary.forgetting for r in mine]),
            _percent([r.summary.fairness.worst_accuracy for r in mine if r.summary.fairness]),
            f"{np.mean(ratios):.3f}" if ratios else "",
            kept,
            _size(float(np.mean(samples))) if len(samples) == len(mine) else "",
            f"{np.mean([r.summary.seconds for r in mine]):.0f}",
            _size(float(np.max([r.peak_bytes for r in mine]))),
            f"{len(mine)} of {len(bench.seeds)}" if len(mine) < len(bench.seeds) else str(len(mine)),
        )
        lines.append(f"| {' | '.join(values)} |")
    return lines


def _curves(bench: BenchConfig, results: Sequence[Result]) -> list[str]:
    """Accuracy on all classes known, after each task; rows of fewer tasks end earlier."""
    tasks = max(len(r.summary.after_each) for r in results)
    lines = [f"| after task | {' | '.join(str(t + 1) for t in range(tasks))} |", "|---" * (tasks + 1) + "|"]
    for row in bench.rows:
        mine = [r for r in results if r.cell.row == row]
        if mine:
            lines.append(
                f"| {row.name} | "
                + " | ".join(
                    _percent([*(share for r in mine for share in r.summary.after_each[t : t + 1])])
                    for t in range(tasks)
                )
                + " |"
            )
    return lines


def _items(bench: BenchConfig, results: Sequence[Result]) -> list[str]:
    """What is kept, item by item, of the first seed at hand."""
    lines = []
    for row in bench.rows:
        mine = [r for r in results if r.cell.row == row]
        items = {item: size for item, size in (mine[0].summary.at_rest if mine else {}).items() if size}
        if items:
            lines.append(f"- {row.name}: {', '.join(f'{item} {_size(size)}' for item, size in items.items())}")
    return lines


def figure(bench: BenchConfig, results: Sequence[Result]) -> "Figure":
    """Accuracy on all classes known after each task, a line a row, a panel a stream; bars are the spread over seeds.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    streams = [s for s in bench.streams if any(r.cell.stream == s for r in results)]
    drawn = Figure(figsize=(10 * len(streams), max(4.5, 0.2 * len(bench.rows))), layout="constrained")
    for axes, stream in zip(np.atleast_1d(drawn.subplots(1, len(streams))), streams, strict=True):
        _panel(axes, bench, [r for r in results if r.cell.stream == stream])
        axes.set(title=stream, xlabel="tasks learned", ylabel="accuracy on all classes known (%)", ylim=(0, 100))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5))
        axes.grid(alpha=0.3)
    return drawn


def _panel(axes: "Axes", bench: BenchConfig, results: Sequence[Result]) -> None:
    curves = {row.name: [r.summary.after_each for r in results if r.cell.row == row] for row in bench.rows}
    for number, (name, mine) in enumerate((name, mine) for name, mine in curves.items() if mine):
        color, style = f"C{number % 10}", ("-", "--", ":", "-.")[number // 10 % 4]
        steps, mean = np.arange(1, len(mine[0]) + 1), 100 * np.mean(mine, 0)
        axes.plot(steps, mean, marker="o", markersize=3, color=color, linestyle=style, label=name)
        if len(mine) > 1:
            spread = 100 * np.std(mine, 0, ddof=1)
            axes.errorbar(steps, mean, spread, fmt="none", capsize=2, alpha=0.5, ecolor=color)


def _percent(values: Sequence[float | None]) -> str:
    return spread([100 * value for value in values if value is not None])


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.2f} GiB"


def _machine() -> str:
    """The processor and the versions that decide results."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        cores = sum(line.startswith("processor") for line in lines)
    except (OSError, StopIteration):
        name, cores = platform.machine(), 0
    gpu = f" and {found}" if (found := accelerator_name()) else ""
    return f"{name}, {cores} cores{gpu}, Python {platform.python_version()}, torch {version('torch')}"
