"""A SuperLink with simulated SuperNodes for one run: its start, its answers and its end."""

import contextlib
import http.client
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil

from apps.flower.command import LOOPBACK, Flwr, connection, environment_of
from apps.flower.programs import simulating_superlink
from braincl_med.foundation.errors import ConfigError, FederationError
from braincl_med.foundation.processes import end_with_parent

START_SECONDS = 180.0
"""How long a slow machine may take from the start of a SuperLink to its first answer."""
ANSWER_SECONDS = 5.0
END_SECONDS = 5.0
SOCKET_BYTES = 107
"""The longest name of a socket in Linux."""
RAY_SOCKET = "/ray/session_2026-11-30_23-59-59_123456_1234567/sockets/plasma_store"
"""What Ray adds to the temporary folder for the longest of its sockets, the process id at its longest."""


def require_short_temporary_folder() -> None:
    """See that the names of Ray's sockets, which lie in the temporary folder, will not be too long.

    Raises:
        ConfigError: they would be.
    """
    used, room = len(os.fsencode(tempfile.gettempdir())), SOCKET_BYTES - len(RAY_SOCKET)
    if used > room:
        raise ConfigError(
            f"the temporary folder's path has {used} bytes, and Ray's sockets in it leave room for {room}: "
            "set TMPDIR to a folder with a shorter path, such as /tmp"
        )


@contextmanager
def running_superlink(scratch: Path, log_file: Path) -> Iterator[Flwr]:
    """A SuperLink in a folder of its own; it and all that it started end with the block.

    Raises:
        FederationError: it ended, or did not answer in time.
    """
    home, empty = scratch / "flwr-home", scratch / "empty"
    home.mkdir()
    empty.mkdir()
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = int(probe.getsockname()[1])
    (home / "config.toml").write_text(connection(LOOPBACK, port, None))
    environment = environment_of(os.environ, home, os.getpid())
    with log_file.open("ab") as output:
        superlink = subprocess.Popen(
            simulating_superlink(port),
            cwd=empty,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(end_with_parent, os.getpid()),
        )
        try:
            _wait_until_answering(port, superlink, log_file.name)
            yield Flwr(home, environment, superlink)
        finally:
            _end(superlink)


def _wait_until_answering(port: int, superlink: subprocess.Popen[bytes], log_name: str) -> None:
    """Wait for an answer of the server that runs are submitted to: its port is open before it can give one."""
    deadline = time.monotonic() + START_SECONDS
    while not _answers(port):
        if superlink.poll() is not None:
            raise FederationError(
                f"the SuperLink ended with status {superlink.returncode} before it answered; "
                f"see '{log_name}' in the state root's logs"
            )
        if time.monotonic() > deadline:
            raise FederationError(
                f"the SuperLink has not answered within {START_SECONDS:.0f} s; see '{log_name}' in the state root's "
                "logs, and start again when the machine has less to do"
            )
        time.sleep(0.1)


def _answers(port: int) -> bool:
    """Whether Flower's server on this machine answers; http.client knows nothing of proxies."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(superlink: subprocess.Popen[bytes]) -> None:
    """End the SuperLink and every process below it or in its session, and nothing else."""
    family = _family(superlink.pid)
    superlink.terminate()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(family, timeout=END_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    try:
        superlink.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        superlink.kill()
        superlink.wait()


def _family(leader: int) -> list[psutil.Process]:
    """What the SuperLink has started: below it, or in its session if what started it has ended already."""
    family: set[psutil.Process] = set()
    with contextlib.suppress(psutil.NoSuchProcess):
        family.update(psutil.Process(leader).children(recursive=True))
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if process.pid != leader and os.getsid(process.pid) == leader:
                family.add(process)
    return list(family)
