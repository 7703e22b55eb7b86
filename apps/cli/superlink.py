"""A SuperLink with simulated SuperNodes for one run: its environment, its start, its answers and its end."""

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil

from braincl_med.foundation.errors import ConfigError, FederationError
from braincl_med.foundation.processes import LAUNCHER_VARIABLE, end_with_parent

PROGRAMS = Path(sys.executable).parent
LOOPBACK = "127.0.0.1"
START_SECONDS = 180.0
"""How long a slow machine may take from the start of a SuperLink to its first answer."""
ANSWER_SECONDS = 5.0
END_SECONDS = 5.0
SOCKET_BYTES = 107
"""The longest name of a socket in Linux."""
RAY_SOCKET = "/ray/session_2026-11-30_23-59-59_123456_1234567/sockets/plasma_store"
"""What Ray adds to the temporary folder for the longest of its sockets, the process id at its longest."""
# Ray's tuning knobs are lower-case after the prefix (RAY_memory_usage_threshold): they are left alone.
STEERING = re.compile(r"FLWR_|RAY_[A-Z]")
UNPROXIED = ("no_proxy", "NO_PROXY", "no_grpc_proxy")


def environment_of(inherited: Mapping[str, str], home: Path, launcher: int) -> dict[str, str]:
    """The environment of a private SuperLink and of all that it starts.

    What would steer Flower or Ray elsewhere is left out, and what stays on this machine goes through no proxy. A
    SOCKS proxy is left out altogether: Flower's HTTP client refuses to start where one is named, used or not.

    Args:
        inherited: the environment of the launcher.
        home: FLWR_HOME, whose `config.toml` names the SuperLink.
        launcher: process id of the launcher.
    """
    kept = {
        name: value
        for name, value in inherited.items()
        if not STEERING.match(name) and not (name.lower().endswith("_proxy") and value.lower().startswith("socks"))
    }
    listed = [host.strip() for name in UNPROXIED for host in inherited.get(name, "").split(",")]
    direct = ",".join(dict.fromkeys([*filter(None, listed), LOOPBACK, "localhost"]))
    return {
        **kept,
        **dict.fromkeys(UNPROXIED, direct),
        "FLWR_HOME": str(home),
        LAUNCHER_VARIABLE: str(launcher),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{PROGRAMS}{os.pathsep}{inherited.get('PATH', '')}",
    }


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


class Flwr:
    """The `flwr` command against one SuperLink, which this process started or which runs elsewhere (None)."""

    def __init__(
        self, home: Path, environment: dict[str, str], superlink: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.home = home
        self.environment = environment
        self.superlink = superlink

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `flwr` and capture what it prints."""
        command = [str(PROGRAMS / "flwr"), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, cwd=self.home)

    def json(self, *arguments: str) -> dict[str, object]:
        """Run `flwr` with JSON output and parse it.

        Raises:
            FederationError: it failed or printed something else.
        """
        done = self.call(*arguments, "--format", "json")
        try:
            answer: dict[str, object] = json.loads(done.stdout[done.stdout.index("{") :])
        except ValueError:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise FederationError(f"flwr {arguments[0]} failed: {lines[-1] if lines else 'no output'}") from None
        return answer


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
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "own"\n\n[superlink.own]\naddress = "{LOOPBACK}:{port}"\ninsecure = true\n'
    )
    environment = environment_of(os.environ, home, os.getpid())
    command = [str(PROGRAMS / "flower-superlink"), "--insecure", "--simulation"]
    command += ["--isolation", "subprocess", "--host", LOOPBACK, "--port", str(port)]
    command += ["--disable-runtime-dependency-installation"]
    with log_file.open("ab") as output:
        superlink = subprocess.Popen(
            command,
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
