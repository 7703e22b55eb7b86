"""How long the dashboard's first page takes over a large run store, and how much memory.

python benchmarks/large_store.py [CLASSES [HOSPITALS]]

An experiment of as many tasks as classes, one class a task. The page is drawn in a process of its own, and again
after each of five changes of the store.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from braincl_med.records.schema import Step
from braincl_med.records.store import RunStore
from braincl_med.records.tallies import write_counts
from braincl_med.settings.config import ExperimentConfig
from braincl_med.streams.tasks import ClassSpec, Registry, TaskSpec

CHANGES = 5
SCANS = 12
"""Of a class at a hospital."""
MIB = 1024


def build(folder: Path, classes: int, hospitals: int) -> RunStore:
    """The store: a class' scans are taken for itself and up to three others."""
    tasks = tuple(
        TaskSpec(name=f"task-{n}", classes=(ClassSpec(dataset="bloodmnist", label=n, name=f"diagnosis {n}"),))
        for n in range(classes)
    )
    store, rng = RunStore(folder, create=True), np.random.default_rng(0)
    config = ExperimentConfig.model_validate({"name": "large"})
    store.begin(config.as_result_settings(), Registry(tasks=tasks), {"python": "3.11"}, "drawn counts")
    with store._connection() as db:
        for task in range(classes):
            for hospital in range(hospitals):
                counts = np.zeros((task + 1, task + 1), np.int64)
                others = rng.integers(0, task + 1, (task + 1, 3))
                np.add.at(counts, (np.arange(task + 1)[:, None], others), 1)
                np.fill_diagonal(counts, counts.diagonal() + SCANS - 3)
                write_counts(db, ("large", task, f"site-{hospital:02}"), counts)
            print(f"\r{task + 1} of {classes} tasks", end="", flush=True)
    store.end("large", "finished")
    print()
    return store


def change(store: RunStore, number: int) -> None:
    """One step more is recorded."""
    names = ("site-00",)
    store.record_step("large", Step(0, number, "encode", 0, 1.0, 1, 1, None, 1, names, {}))


def draw(folder: Path) -> None:
    """Draw the first page, and again after each line on standard input; tell seconds and the peak of memory."""
    began = time.perf_counter()
    from streamlit.testing.v1 import AppTest

    from apps.dashboard.launch import ENTRY

    sys.argv = [str(ENTRY), "--state", str(folder)]
    imported = time.perf_counter() - began
    page = AppTest.from_file(str(ENTRY), default_timeout=300)
    while True:
        began = time.perf_counter()
        page.run()
        if page.exception:
            raise RuntimeError(page.exception[0].message)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
        told = {"seconds": seconds, "import": imported, "MiB": peak, "shown": page.subheader[0].value}
        print(json.dumps(told), flush=True)
        if not sys.stdin.readline():
            return


def main() -> None:
    """Build the store, draw the page."""
    classes, hospitals = (int(one) for one in (*sys.argv[1:3], *("200", "50")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as scratch:
        store = build(Path(scratch), classes, hospitals)
        size = store.path.stat().st_size / 2**20
        print(f"{classes} classes, {classes} tasks, {hospitals} hospitals: {size:.0f} MiB")
        command = [sys.executable, __file__, "draw", scratch]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as page:
            assert page.stdin is not None
            assert page.stdout is not None
            for number in range(CHANGES + 1):
                if number:
                    change(store, number)
                    print(file=page.stdin, flush=True)
                told = json.loads(page.stdout.readline())
                print(
                    f"'{told['shown']}' after {number} changes: {told['seconds']:.2f} s, peak {told['MiB']:.0f} MiB"
                    + ("" if number else f" (imports {told['import']:.1f} s)")
                )
            page.stdin.close()


if __name__ == "__main__":
    draw(Path(sys.argv[2])) if sys.argv[1:2] == ["draw"] else main()
