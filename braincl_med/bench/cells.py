"""Running cells, each in a process of its own: its peak memory is its own, and it can be stopped and resumed."""

import contextlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from braincl_med.bench.plan import Cell
from braincl_med.federation.local import run_locally
from braincl_med.foundation.errors import BrainclError, ConfigError
from braincl_med.foundation.files import write_whole
from braincl_med.foundation.processes import end_with_parent
from braincl_med.records.examined import Examined, each_examined
from braincl_med.records.store import RunStore
from braincl_med.records.summary import Summary, summarise
from braincl_med.settings.loading import differences, load_experiment

log = logging.getLogger("braincl")
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Result:
    """A finished cell.

    Attributes:
        cell: which.
        summary: its figures from the run store.
        peak_bytes: of memory of its process (of the last one if it was interrupted).
        encoded: scans that became cues; 0 for methods that make none.
        examined: what hospitals' examinations say, in the order of tasks; empty where none was asked for.
    """

    cell: Cell
    summary: Summary
    peak_bytes: int
    encoded: int
    examined: tuple[Examined, ...] = ()

    @property
    def kept_bytes(self) -> int:
        """What all hospitals keep beyond one network and, for Joint, the scans themselves."""
        return sum(self.summary.at_rest.values())

    @property
    def bytes_per_scan(self) -> float | None:
        """What is kept for a scan that became a cue; None where none did."""
        return self.kept_bytes / self.encoded if self.encoded else None


def results_of(cells: Sequence[Cell], state: Path) -> list[Result]:
    """The finished ones of `cells` whose figures can be used, in their order; the others are warned of by name."""
    found = [_look(cell, state) for cell in cells]
    for cell, one in zip(cells, found, strict=True):
        if isinstance(one, str):
            log.warning("%s: %s", cell.name, one)
    return [one for one in found if isinstance(one, Result)]


def _look(cell: Cell, state: Path) -> Result | str | None:
    """The result of a cell; None when it is not finished, a sentence when its figures are not those of the table."""
    try:
        peak = int(json.loads(_peak_file(cell, state).read_bytes())["peak-bytes"])
        store = RunStore(state)
        former = store.experiment(cell.name).config
        summary = summarise(store, cell.name)
        encoded = sum(step.examples for step in store.steps(cell.name) if step.phase == "encode")
        examined = each_examined(store, cell.name)
    except (OSError, ValueError, KeyError, TypeError, BrainclError):
        return None
    budget = former.get("exemplars", {}).get("bytes-per-scan") if cell.rival else None
    rival = _look(cell.rival, state) if cell.rival else None
    if isinstance(rival, Result) and rival.bytes_per_scan != budget:
        return (
            f"was run with {budget} bytes a scan, but '{rival.cell.name}' keeps {rival.bytes_per_scan}; "
            "give another folder with --state"
        )
    try:
        changed = differences(former, cell.experiment(state, budget))
    except ConfigError as error:
        return f"{error}; give another folder with --state"
    if changed:
        return f"was run with other settings: {'; '.join(map(str, changed))}; give another folder with --state"
    return Result(cell, summary, peak, encoded, examined) if summary.status == "finished" else None


def run_cells(
    cells: Sequence[Cell], state: Path, workers: int, deadline: float | None, report: Callable[[Result], None]
) -> list[str]:
    """Run what is not finished, `workers` at a time. A cell that fails stops no other but those that need its bytes.

    Args:
        cells: rivals before the rows that need their bytes.
        state: the state root.
        workers: processes at a time; each gets an equal part of the cores.
        deadline: `time.monotonic()` at which running cells are stopped, to be resumed; None for never.
        report: called with each cell that has finished.

    Returns:
        One sentence for each cell that failed.
    """
    former = {cell.name: _look(cell, state) for cell in cells}
    finished = {name: one for name, one in former.items() if isinstance(one, Result)}
    failures = {name: one for name, one in former.items() if isinstance(one, str)}
    waiting = [cell for cell in cells if former[cell.name] is None]
    running: list[tuple[Cell, subprocess.Popen[bytes]]] = []
    try:
        while (waiting or running) and not (deadline is not None and time.monotonic() > deadline):
            for cell in list(waiting):
                rival = cell.rival
                if rival is not None and rival.name in failures:
                    failures[cell.name] = f"'{rival.row.name}', whose bytes it needs, failed"
                    waiting.remove(cell)
                elif len(running) < workers and (rival is None or rival.name in finished):
                    waiting.remove(cell)
                    try:
                        running.append((cell, _start(cell, state, workers, finished[rival.name] if rival else None)))
                    except (ConfigError, OSError) as error:
                        failures[cell.name] = f"could not be started: {error}"
            for cell, process in list(running):
                if process.poll() is None:
                    continue
                running.remove((cell, process))
                done = _look(cell, state)
                if isinstance(done, Result):
                    finished[cell.name] = done
                    report(done)
                else:
                    ended = f"ended with status {process.returncode}, its reason stands above"
                    failures[cell.name] = ended if done is None else done
            time.sleep(POLL_SECONDS)
    finally:
        for _, process in running:
            process.send_signal(signal.SIGTERM)
        for _, process in running:
            process.wait()
    return [f"{name}: {reason}" for name, reason in failures.items()]


def _start(cell: Cell, state: Path, workers: int, rival: Result | None) -> "subprocess.Popen[bytes]":
    """Start a cell's process, which reads its experiment from standard input.

    Raises:
        ConfigError: the rival has encoded nothing, or a setting is refused.
        OSError: there are no more processes to be had.
    """
    if rival is not None and not rival.bytes_per_scan:
        raise ConfigError(f"'{rival.cell.row.name}' encodes no scans, so it has no bytes a scan to be equal to")
    experiment = cell.experiment(state, rival.bytes_per_scan if rival is not None else None)
    threads = max(1, (os.cpu_count() or 1) // workers)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [sys.executable, "-m", "braincl_med.bench.cells", str(_peak_file(cell, state))],
        stdin=subprocess.PIPE,
        env=environment,
        preexec_fn=partial(end_with_parent, os.getpid()),
    )
    assert process.stdin is not None
    settings = json.dumps(experiment.model_dump(mode="json", by_alias=True), ensure_ascii=False)
    with contextlib.suppress(BrokenPipeError):  # it has died already, and its status will say so
        process.stdin.write(settings.encode())
        process.stdin.close()
    return process


def _peak_file(cell: Cell, state: Path) -> Path:
    return state / "bench" / f"{cell.name}.json"


def main() -> None:
    """A cell's process: run the experiment on standard input, then write down the peak of memory."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    experiment = load_experiment(sys.stdin.read())
    try:
        run_locally(experiment)
    except BrainclError as error:
        sys.exit(f"{experiment.name}: {error}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    write_whole(Path(sys.argv[1]), json.dumps({"peak-bytes": peak}).encode())


if __name__ == "__main__":
    main()
