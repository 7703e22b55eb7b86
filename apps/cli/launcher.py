"""`braincl run`: one experiment over simulated hospitals, with a SuperLink of its own that ends with it.

    assemble the Flower app ─► SuperLink (own port, own FLWR_HOME, empty folder) ─► flwr run ─► follow ─► end

Flower's exit status says nothing about a failed run, so the run's status is asked for and its reason is read from
the run store.
"""

import json
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

import torch

import braincl_med
from apps.cli.superlink import require_short_temporary_folder, running_superlink
from apps.flower.command import Flwr
from apps.flower.programs import simulated
from braincl_med.federation.beginning import record_end, starting_point
from braincl_med.federation.checkpoint import folder_of, load_checkpoint
from braincl_med.federation.hospital import keys_of
from braincl_med.federation.seen import FOLDER
from braincl_med.foundation.errors import BrainclError, DataError, FederationError, LockedError, RecordsError
from braincl_med.foundation.files import LOCK_NAME, locked, make_private_file, storage_error
from braincl_med.foundation.logs import begin_anew_if_long, former_log, log_path
from braincl_med.foundation.version import require_tested_flower
from braincl_med.records.alive import now
from braincl_med.records.store import RunStore
from braincl_med.settings.config import ExperimentConfig, StreamConfig
from braincl_med.settings.loading import packaged_configs
from braincl_med.streams.availability import require_scans, resolve
from braincl_med.streams.tasks import Registry

log = logging.getLogger("braincl")
FORMER_RUN_SECONDS = 120.0
POLL_SECONDS = 1.0
STATUS_SECONDS = 30.0
"""How often Flower is asked for the run's status while its records say that it goes on: an answer takes two seconds
of a core that hospitals could use."""
SILENCE_SECONDS = 120.0
"""How long `flwr list` may fail in a row, as it does on a machine with too much to do, until the run is given up."""
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
    require_tested_flower()
    # Before anything is written or handed on: what is no key's place might be a key.
    keys_of(config, "site-0", config.vault_key, config.network_key)
    stream, fallback = resolve(config.stream, config.data_folder)
    if fallback:
        log.warning("%s", fallback)
    config = anchored(config, stream)
    state, data = config.state_folder, config.data_folder
    _require_what_was_learned(config, fallback)
    require_short_temporary_folder()
    folder, what = folder_of(state, config.name), f"experiment '{config.name}'"
    _wait_for_former_run(folder, what)
    if fresh:
        forget_experiment(config)
    with locked(folder, what):
        checkpoint = starting_point(config)
        if checkpoint.finished:
            record_end(RunStore(state, create=True), config.name)
            return (
                f"nothing to learn: all {len(checkpoint.registry.tasks)} tasks of '{config.name}' are learned "
                "(`braincl tasks add` adds a diagnosis, `--fresh` starts afresh)"
            )
    added = Registry(tasks=checkpoint.registry.tasks[checkpoint.task :])
    require_scans(added.classes, ("train", stream.evaluate), stream, data, config.federation.hospitals)
    followed, flower_log = logs_of(config)
    began, follow = now(), Tail(followed)
    with (
        # Ray may write its last words while the folder is emptied.
        tempfile.TemporaryDirectory(prefix="braincl-", ignore_cleanup_errors=True) as scratch,
        running_superlink(Path(scratch), flower_log) as flwr,
    ):
        app = assemble_app(Path(scratch) / "app")
        nodes = simulated(config.federation.hospitals, cores_per_hospital, torch.cuda.device_count())
        status = submit_and_follow(flwr, app, config, follow, flower_log, nodes)
    return outcome(config, status, began, flower_log)


def anchored(config: ExperimentConfig, stream: StreamConfig) -> ExperimentConfig:
    """`config` over `stream`, with paths that hold wherever they are read: Flower runs its apps elsewhere."""
    data = config.data_folder
    start = config.cortex.weights and str(Path(config.cortex.weights).expanduser().resolve())
    return config.model_copy(
        update={
            "stream": stream,
            "state_root": str(config.state_folder.resolve()),
            "data_root": str(data.resolve()) if data else "",
            "cortex": config.cortex.model_copy(update={"weights": start}),
        }
    )


def logs_of(config: ExperimentConfig) -> tuple[Path, Path]:
    """The coordinator's log and Flower's, made if missing.

    Raises:
        BrainclError: they cannot be.
    """
    followed = log_path(config.state_folder, config.name)
    flower_log = followed.with_suffix(".flower.log")
    try:
        followed.parent.mkdir(parents=True, exist_ok=True)
        begin_anew_if_long(flower_log)
        make_private_file(followed)
        make_private_file(flower_log)
    except OSError as error:
        raise storage_error(followed, 0, error) from error
    return followed, flower_log


def outcome(config: ExperimentConfig, status: str, began: str, flower_log: Path) -> str:
    """How a run ended, as a sentence.

    Args:
        config: the experiment.
        status: Flower's final status of the run.
        began: when it was submitted.
        flower_log: where Flower's own log lies.

    Raises:
        FederationError: it failed; the message says why.
    """
    state = config.state_folder
    record = RunStore(state).experiment(config.name) if (state / "runs.sqlite").is_file() else None
    if status == "finished:completed" and record is not None and record.status == "finished":
        return f"'{config.name}' has learned all {len(record.registry.tasks)} tasks"
    # What a former run recorded or logged is not why this one failed.
    failed = record is not None and record.status == "failed" and record.updated >= began
    reason = record.message if record is not None and failed else ""
    raise FederationError(
        f"{reason or f'the run ended as {status!r} without a reason on record (a full disk leaves none)'}; "
        f"Flower's log is '{flower_log.name}' in the state root's logs"
    )


def _require_what_was_learned(config: ExperimentConfig, fallback: str | None) -> None:
    """Refuse phantoms in the place of scans that the experiment has learned from.

    Raises:
        DataError: the experiment goes on, and its files are not where they are looked for now.
    """
    begun = load_checkpoint(folder_of(config.state_folder, config.name)) if fallback else None
    if begun is not None and begun.settings["stream"]["name"] != config.stream.name:
        raise DataError(
            f"{(fallback or '').partition('. ')[0]}; '{config.name}' has learned from it and reads its test "
            "scans again: put or link the file into the data folder (data-root), or name the folder that has it"
        )


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


def assemble_app(folder: Path) -> Path:
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


def submit_and_follow(
    flwr: Flwr, app: Path, config: ExperimentConfig, follow: "Tail", flower_log: Path, nodes: str | None = None
) -> str:
    """Submit the run, print the coordinator's lines as they come, and return Flower's final status of the run."""
    overrides = app.parent / "overrides.toml"
    text = json.dumps(config.model_dump(mode="json", by_alias=True), ensure_ascii=False)
    # JSON's string escapes are those of a TOML basic string.
    overrides.write_text(f"config = {json.dumps(text, ensure_ascii=False)}\n", encoding="utf-8")
    run_id = flwr.submit(app, overrides, nodes)
    heard = asked = time.monotonic()
    while True:
        time.sleep(POLL_SECONDS)
        follow.print_new()
        if flwr.superlink is not None and flwr.superlink.poll() is not None:
            raise FederationError(
                f"the SuperLink ended before the run did; see '{flower_log.name}' in the state root's logs"
            )
        if time.monotonic() - asked < (STATUS_SECONDS if _goes_on(config) else 5 * POLL_SECONDS):
            continue
        asked = time.monotonic()
        try:
            status = flwr.status(run_id)
        except FederationError:
            if time.monotonic() - heard > SILENCE_SECONDS:
                raise
            continue
        heard = time.monotonic()
        if status.startswith("finished"):
            follow.print_new()
            with flower_log.open("a", encoding="utf-8") as file:
                file.write(flwr.log(run_id))
            return status


def _goes_on(config: ExperimentConfig) -> bool:
    """Whether the run's records say so; before it has begun and once it has ended they do not."""
    try:
        return RunStore(config.state_folder).experiment(config.name).status == "running"
    except RecordsError:
        return False


class Tail:
    """Prints what the coordinator has logged since the last look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = path.stat().st_size

    def print_new(self) -> None:
        """Print the lines that are complete."""
        if self.path.stat().st_size < self.position:  # it was begun anew meanwhile
            self._print_from(former_log(self.path))
            self.position = 0
        self._print_from(self.path)

    def _print_from(self, path: Path) -> None:
        with path.open("rb") as file:
            file.seek(self.position)
            content = file.read()
        complete, newline, _ = content.rpartition(b"\n")
        self.position += len(complete) + len(newline)
        for line in complete.decode(errors="replace").splitlines():
            print(line, flush=True)


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
        for remembered in state.glob(f"site-*/{FOLDER}/{config.name}"):
            _empty(remembered, what)
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
