"""Masked sums over a real SuperLink and real SuperNodes, of which one is killed on the way."""

import contextlib
import json
import os
import socket
import subprocess
import time

import pytest

from apps.cli.launcher import assemble_app
from apps.flower.command import LOOPBACK, Flwr, connection, environment_of, program
from braincl_med.masking.identity import own_identity
from braincl_med.records.store import RunStore
from tests.federation.experiments import tiny

HOSPITALS = 3


def free_ports(count):
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture
def started(tmp_path):
    """Starts programs that end with the test."""
    running = []
    home = tmp_path / "home"
    home.mkdir()
    environment = environment_of(os.environ, home, os.getpid())

    def start(name, *command):
        folder = tmp_path / name
        folder.mkdir()
        with (folder / "log").open("wb") as output:
            process = subprocess.Popen(
                [program(command[0]), *command[1:]],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running.append(process)
        return process

    yield start, environment, home
    for process in reversed(running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def within(seconds, holds):
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return held


@pytest.mark.skipif(
    "BRAINCL_SUPERNODES" not in os.environ,
    reason="takes three minutes, for Flower starts a process a message: set BRAINCL_SUPERNODES=1 to run it",
)
@pytest.mark.flower
@pytest.mark.timeout(600)
def test_supernodes_under_masks_and_one_that_is_killed_costs_the_sum_nothing(tmp_path, started):
    start, environment, home = started
    port, *own_ports = free_ports(1 + HOSPITALS)
    (home / "config.toml").write_text(connection(LOOPBACK, port, None))
    link = start(
        "link", "flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port),
        "--disable-runtime-dependency-installation",
    )  # fmt: skip
    assert within(60, lambda: answers(port))
    for number in range(HOSPITALS):
        own_identity(tmp_path / f"v{number}" / "key", f"site-{number}")
    pins = "".join((tmp_path / f"v{number}" / "key.pub").read_text() for number in range(HOSPITALS))
    (tmp_path / "identities").write_text(pins)
    nodes = [
        start(
            f"node{number}", "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}",
            "--host", "127.0.0.1", "--port", str(own_ports[number]), "--node-config",
            f'partition-id={number} vault-dir="{tmp_path / f"v{number}"}" '
            f'identity-key="{tmp_path / f"v{number}" / "key"}" masking-identities="{tmp_path / "identities"}"',
        )
        for number in range(HOSPITALS)
    ]  # fmt: skip
    state = tmp_path / "state"
    config = tiny(
        state, method="finetune", federation_masking="on", federation_hospitals=HOSPITALS, stream_task_count=1,
        sleep_rounds=1, sleep_epochs=1, cortex_network="resnet18", cortex_stem="3x3-stride2", cortex_norm="group",
    )  # fmt: skip
    app = assemble_app(tmp_path / "app")
    text = json.dumps(config.model_dump(mode="json", by_alias=True))
    (tmp_path / "overrides.toml").write_text(f"config = {json.dumps(text)}\n")
    flwr = Flwr(home, environment, link)
    flwr.submit(app, tmp_path / "overrides.toml")

    def steps():
        with contextlib.suppress(Exception):
            return RunStore(state).steps("tiny")
        return []

    assert within(250, steps), "the first sum"
    os.killpg(nodes[2].pid, 9)
    assert within(250, lambda: len(steps()) == 2), "the second, of those that are left"
    first, second = steps()
    assert first.hospitals == ("site-0", "site-1", "site-2")
    assert second.hospitals == ("site-0", "site-1")
    assert list(second.missing) == ["site-2"]
    assert (first.examples, RunStore(state).tally("tiny").hospitals) == (3 * 12 * 3, ("all hospitals",))
