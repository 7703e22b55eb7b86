"""What an exchange costs beside its computing: a server and hospitals with TLS and keys on loopback, and one process.

python benchmarks/exchanges.py [HOSPITALS]

The same small experiment over hospitals in one process; over SuperNodes that start Flower's own process for every
message, as Flower does by itself; and over those of `braincl deploy`, whose executor is warm.
"""

import contextlib
import os
import random
import sys
import tempfile
from pathlib import Path
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from apps.deploy import parts, up
from apps.deploy.init import initialise
from apps.deploy.layout import Hospital, read_settings
from apps.deploy.submit import state_for, submit
from apps.flower import programs
from braincl_med.federation.local import run_locally
from braincl_med.records.store import RunStore
from braincl_med.settings.loading import load_experiment

SETTINGS = """
name: exchanges
stream: {name: phantom, task-count: 2, train-per-class: 12, test-per-class: 6}
memory: {components: 6, step: 1.0, guidance: 0}
cortex: {stem: 3x3-stride2}
wake: {learning-rate: 0.003, epochs: 1}
selection: {per-class: 8}
sleep: {rounds: 1, epochs: 2, batch-size: 16, learning-rate: 0.02}
"""


def steps_of(state: Path):
    return RunStore(state).steps("exchanges")


def alone(folder: Path, hospitals: int):
    run_locally(load_experiment(SETTINGS, {"state-root": str(folder), "federation-hospitals": hospitals}))
    return steps_of(folder)


def deployed(folder: Path, hospitals: int):
    initialise(folder, "127.0.0.1", hospitals, port=random.randrange(20000, 50000, 10), with_proxy=False)
    names = [f"hospital-{number + 1}" for number in range(hospitals)]
    state = state_for(folder / "server", read_settings(folder / "server"))
    with contextlib.ExitStack() as stack:
        for name in ("server", *names):
            stack.enter_context(up.Running(folder / name))
        submit(folder, load_experiment(SETTINGS, {"state-root": str(state), "federation-hospitals": hospitals}))
    return steps_of(state)


def by_flower(folder: Path, hospitals: int):
    """As `deployed`, with a process of Flower's for every message."""
    plain = programs.supernode

    def supernode(place, hospital):
        command = plain(place, hospital)
        command[command.index("--isolation") + 1] = "subprocess"
        at = command.index("--superexec-auth-secret-file")
        return [*command[:at], *command[at + 2 :]]

    def parts_of(settings):
        return (parts.SUPERNODE,) if isinstance(settings, Hospital) else ordinary(settings)

    ordinary = parts.parts_of
    with mock.patch.object(programs, "supernode", supernode), mock.patch.object(up, "parts_of", parts_of):
        return deployed(folder, hospitals)


def main(hospitals: int) -> None:
    ways = {"one process": alone, "a process a message": by_flower, "warm": deployed}
    with tempfile.TemporaryDirectory(prefix="braincl-") as scratch:
        runs = {name: way(Path(scratch) / str(number), hospitals) for number, (name, way) in enumerate(ways.items())}
    print(f"{hospitals} hospitals; seconds, and MB down and up\n\n| task | phase | {' | '.join(runs)} |")
    print(f"|---|---|{'---|' * len(runs)}")
    for steps in zip(*runs.values(), strict=True):
        told = [f"{s.seconds:.1f} s, {s.bytes_down / 1e6:.1f} + {s.bytes_up / 1e6:.1f}" for s in steps]
        print(f"| {steps[0].task + 1} | {steps[0].phase} | {' | '.join(told)} |")
    computing, before, now = (sum(step.seconds for step in steps) for steps in runs.values())
    count = len(next(iter(runs.values())))
    print(
        f"\nBeside computing an exchange takes {(before - computing) / count:.1f} s with a process a message and "
        f"{(now - computing) / count:.1f} s with a warm one: {(now - computing) / (before - computing):.2f} of it."
    )
    for name, steps in runs.items():
        print(f"{name}: {sum(s.bytes_down + s.bytes_up for s in steps) / 1e6:.0f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
