"""`braincl run`: one experiment over simulated hospitals, with a SuperLink of its own that ends with it.

    assemble the Flower app ─► flower-superlink (own port, own FLWR_HOME, empty folder) ─► flwr run ─► follow ─► end

Flower's exit status says nothing about a failed run, so the run's status is asked for and its reason is read from
the run store.
"""

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import torch

import braincl_med
from braincl_med.federation.checkpoint import folder_of
from braincl_med.federation.coordinator import record_end, starting_point
from braincl_med.foundation.errors import BrainclError, FederationError, LockedError
from braincl_med.foundation.files import LOCK_NAME, locked, storage_error
from braincl_med.foundation.logs import log_path
from braincl_med.foundation.processes import LAUNCHER_VARIABLE, end_with_parent
from braincl_med.records.store import RunStore, now
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import packaged_configs
from braincl_med.streams.availability import resolve

log = logging.getLogger("braincl")
START_SECONDS = 60.0
FORMER_RUN_SECONDS = 120.0
POLL_SECONDS = 1.0
PACKAGES = ("braincl_med", "server", "client")


def run_experiment(config: ExperimentConfig, cores_per_hospital: int, fresh: bool = False) -> str:
    """Run `config` over its simulated hospitals until it is finished.

    Args:
        config: the experiment.
        cores_per_hospital: threads of one hospital's training; the others wait when the machine has no more cores.
        fresh: delete the experiment's former state first.

    Returns:
        One sentence on how it ended.

    Raises:
        BrainclError: it was refused before the start, or failed; the message says why.
    """
    stream, fallback = resolve(config.stream, config.data_folder)
    if fallback:
        log.warning("%s", fallback)
    state = config.state_folder.resolve()
    data = config.data_folder
    config = config.model_copy(
        update={"stream": stream, "state_root": str(state), "data_root": str(data.resolve()) if data else ""}
    )
    _wait_for_former_run(folder_of(state, config.name), f"experiment '{config.name}'")
    if fresh:
        forget_experiment(config)
    checkpoint = starting_point(config)
    if checkpoint.finished:
        record_end(RunStore(state, create=True), config.name)
        return (
            f"nothing to learn: all {len(checkpoint.registry.tasks)} tasks of '{config.name}' are learned "
            "(`braincl tasks add` adds a diagnosis, `--fresh` starts afresh)"
        )
    followed = log_path(state, config.name)
    flower_log = followed.with_suffix(".flower.log")
    try:
        followed.parent.mkdir(parents=True, exist_ok=True)
        followed.touch()
    except OSError as error:
        raise storage_error(followed, 0, error) from error
    began, follow = now(), _Tail(followed)
    with tempfile.TemporaryDirectory(prefix="braincl-") as scratch, _superlink(Path(scratch), flower_log) as flwr:
        app = _assemble_app(Path(scratch) / "app")
        status = _submit_and_follow(flwr, app, config, cores_per_hospital, follow, flower_log)
    record = RunStore(state).experiment(config.name) if (state / "runs.sqlite").is_file() else None
    if status == "finished:completed" and record is not None and record.status == "finished":
        return f"'{config.name}' has learned all {len(record.registry.tasks)} tasks"
    # What a former run recorded or logged is not why this one failed.
    failed = record is not None and record.status == "failed" and record.updated >= began
    reason = record.message if record is not None and failed else ""
    raise FederationError(reason or follow.last or f"the run ended as '{status}'; see '{flower_log.name}'")


def _wait_for_former_run(folder: Path, what: str) -> None:
    """Wait until a run whose launcher was killed has noticed it, which it does at its next step.

    Raises:
        LockedError: another run still writes the experiment after two minutes.
    """
    deadline = time.monotonic() + FORMER_RUN_SECONDS
    while True:
        try:
            with locked(folder, what):
                return
        except LockedError as error:
            if time.monotonic() > deadline:
                raise
            log.info("%s", error)
            time.sleep(5 * POLL_SECONDS)


class _Flwr:
    """The `flwr` command against one SuperLink."""

    def __init__(self, home: Path, environment: dict[str, str], superlink: subprocess.Popen[bytes]) -> None:
        self.home = home
        self.environment = environment
        self.superlink = superlink

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `flwr` and capture what it prints."""
        command = [str(Path(sys.executable).parent / "flwr"), *arguments]
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
def _superlink(scratch: Path, log_file: Path) -> Iterator[_Flwr]:
    """A SuperLink with simulated SuperNodes in a folder of its own; it and all that it started end with the block."""
    home, empty = scratch / "flwr-home", scratch / "empty"
    home.mkdir()
    empty.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "own"\n\n[superlink.own]\naddress = "{address}"\ninsecure = true\n'
    )
    environment = {
        **os.environ,
        "FLWR_HOME": str(home),
        LAUNCHER_VARIABLE: str(os.getpid()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    command = [str(Path(sys.executable).parent / "flower-superlink"), "--insecure", "--simulation"]
    command += ["--isolation", "subprocess", "--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
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
        previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            _wait_until_listening(address, superlink)
            yield _Flwr(home, environment, superlink)
        finally:
            signal.signal(signal.SIGTERM, previous)
            _end(superlink)


def _wait_until_listening(address: str, superlink: subprocess.Popen[bytes]) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and superlink.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.1)
    raise FederationError(f"the SuperLink did not come up within {START_SECONDS:.0f} s; see the state root's logs")


def _end(superlink: subprocess.Popen[bytes]) -> None:
    """End the SuperLink and every process below it, and nothing else."""
    try:
        family = psutil.Process(superlink.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    superlink.terminate()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(family, timeout=5)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    try:
        superlink.wait(5)
    except subprocess.TimeoutExpired:
        superlink.kill()
        superlink.wait()


def _assemble_app(folder: Path) -> Path:
    """A folder with just what a Flower app bundle needs, from a checkout or an installed package alike."""
    package = Path(braincl_med.__file__).resolve().parent
    for name in PACKAGES:
        source = package.parent / name
        shutil.copytree(
            source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "app" if source == package else "")
        )
    shutil.copytree(packaged_configs(), folder / "configs")
    beside = package.parent / "pyproject.toml"
    shutil.copy(beside if beside.is_file() else package / "app" / "pyproject.toml", folder / "pyproject.toml")
    (folder / "README.md").write_text("BrainCL-Med\n")
    return folder


def _submit_and_follow(
    flwr: _Flwr, app: Path, config: ExperimentConfig, cores_per_hospital: int, follow: "_Tail", flower_log: Path
) -> str:
    """Submit the run, print the coordinator's lines as they come, and return Flower's final status of the run."""
    overrides = app.parent / "overrides.toml"
    text = json.dumps(config.model_dump(mode="json", by_alias=True))
    # JSON's string escapes are those of a TOML basic string.
    overrides.write_text(f"config = {json.dumps(text)}\n")
    hospitals = config.federation.hospitals
    federation = f"num-supernodes={hospitals} client-resources-num-cpus={cores_per_hospital}"
    if gpus := torch.cuda.device_count():
        federation += f" client-resources-num-gpus={1000 // -(-hospitals // gpus) / 1000}"
    answer = flwr.json("run", str(app), "own", "-c", str(overrides), "--federation-config", federation)
    if not answer.get("success"):
        raise FederationError(f"the SuperLink refused the run: {answer.get('error-message', answer)}")
    run_id = str(answer["run-id"])
    while True:
        for _ in range(5):
            time.sleep(POLL_SECONDS)
            follow.print_new()
        if flwr.superlink.poll() is not None:
            raise FederationError("the SuperLink ended before the run did; see the state root's logs")
        runs = flwr.json("list", "own", "--run-id", run_id)["runs"]
        status = str(runs[0]["status"])  # type: ignore[index]
        if status.startswith("finished"):
            follow.print_new()
            with flower_log.open("a", encoding="utf-8") as file:
                file.write(flwr.call("log", run_id, "own", "--show").stdout)
            return status


class _Tail:
    """Prints what the coordinator has logged since the last look; `last` is the last line of it, or nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = path.stat().st_size
        self.last = ""

    def print_new(self) -> None:
        with self.path.open("rb") as file:
            file.seek(self.position)
            content = file.read()
        complete, newline, _ = content.rpartition(b"\n")
        self.position += len(complete) + len(newline)
        for line in complete.decode(errors="replace").splitlines():
            print(line, flush=True)
            self.last = line


def forget_experiment(config: ExperimentConfig) -> None:
    """Delete a simulated experiment: checkpoint, records, and its folder in every simulated hospital's vault.

    The locks stay, so that a run that goes on elsewhere is noticed.

    Raises:
        LockedError: another run writes it.
        BrainclError: a folder cannot be deleted.
    """
    state, what = config.state_folder, f"experiment '{config.name}'"
    server = folder_of(state, config.name)
    with locked(server, what):
        for vault in state.glob(f"site-*/{config.name}"):
            with locked(vault, f"a vault of {what}"):
                _empty(vault, what)
        if (state / "runs.sqlite").is_file():
            RunStore(state).forget(config.name)
        _empty(server, what)


def _empty(folder: Path, what: str) -> None:
    try:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK_NAME:
                path.unlink()
    except OSError as error:
        raise BrainclError(f"{what} cannot be deleted: {os.strerror(error.errno or 0).lower()}") from error
