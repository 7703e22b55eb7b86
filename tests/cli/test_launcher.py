"""The launcher over programs that stand in for Flower's."""

import os
import signal
import sys
import time

import psutil
import pytest

from apps.cli import launcher
from apps.cli.launcher import run_experiment
from apps.cli.main import main
from apps.flower import command
from apps.flower.command import Flwr
from braincl_med.federation.beginning import versions
from braincl_med.federation.extend import add_task
from braincl_med.foundation.errors import DataError, FederationError
from braincl_med.records.store import RunStore
from braincl_med.streams.named import build_registry
from tests.children import send_stderr_to, started
from tests.cli.programs import install
from tests.federation.experiments import as_if_learned, tiny


def _program(folder):
    """`braincl run quick` over the stand-ins in `folder`."""
    # Whoever runs the tests in the background may ignore it, which is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    send_stderr_to(folder / "said")
    command.PROGRAMS = folder
    os.environ["FAKE_FOLDER"] = str(folder)
    sys.argv = ["braincl", "run", "quick", "--state", str(folder / "state")]
    main()


@pytest.fixture
def programs(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "PROGRAMS", install(tmp_path))
    monkeypatch.setattr(launcher, "POLL_SECONDS", 0.01)
    monkeypatch.setenv("FAKE_FOLDER", str(tmp_path))


def test_an_interrupted_run_ends_its_superlink_and_says_how_to_go_on(tmp_path):
    (tmp_path / "status").write_text("running")
    run = started(_program, install(tmp_path))
    deadline = time.monotonic() + 120
    while not (tmp_path / "submitted").is_file() and run.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGINT)
    run.join(60)
    said = (tmp_path / "said").read_text()
    assert run.exitcode == 130, said
    assert said.count("\n") == 1
    assert "--resume" in said
    programs = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(programs) == 2
    assert not any(map(psutil.pid_exists, programs))


def test_a_line_of_progress_is_never_given_as_a_reason(programs, tmp_path):
    (tmp_path / "status").write_text("finished:failed")
    with pytest.raises(FederationError) as failed:
        run_experiment(tiny(tmp_path), cores_per_hospital=1)
    assert "learns from" in (tmp_path / "logs" / "tiny.log").read_text()
    assert str(failed.value) == (
        "the run ended as 'finished:failed' without a reason on record (a full disk leaves none); "
        "Flower's log is 'tiny.flower.log' in the state root's logs"
    )


def test_a_recorded_reason_is_given_and_flowers_log_named(programs, tmp_path, monkeypatch):
    (tmp_path / "status").write_text("finished:failed")
    config = tiny(tmp_path)
    assemble = launcher.assemble_app

    def failing(folder):
        store = RunStore(tmp_path, create=True)
        store.begin(config.as_result_settings(), build_registry(config.stream, 1), versions(), "phantoms")
        store.end("tiny", "failed", "1 of 2 hospitals gave a usable answer")
        return assemble(folder)

    monkeypatch.setattr(launcher, "assemble_app", failing)
    with pytest.raises(FederationError, match=r"^1 of 2 hospitals gave a usable answer; .*'tiny.flower.log'"):
        run_experiment(config, cores_per_hospital=1)


def test_a_superlink_too_busy_to_answer_once_does_not_end_the_run(programs, tmp_path, monkeypatch):
    (tmp_path / "status").write_text("finished:failed")
    asked, status = [], Flwr.status

    def busy(flwr, run_id):
        asked.append(run_id)
        if len(asked) < 3:
            raise FederationError("flwr list failed: timed out")
        return status(flwr, run_id)

    monkeypatch.setattr(Flwr, "status", busy)
    with pytest.raises(FederationError, match="ended as 'finished:failed'"):
        run_experiment(tiny(tmp_path), cores_per_hospital=1)
    assert len(asked) == 3
    monkeypatch.setattr(launcher, "SILENCE_SECONDS", 0)
    asked.clear()
    with pytest.raises(FederationError, match="timed out"):
        run_experiment(tiny(tmp_path), cores_per_hospital=1)


def test_an_added_task_whose_scans_have_gone_is_refused_before_the_start(programs, tmp_path, monkeypatch):
    config = as_if_learned(tiny(tmp_path))
    add_task(tmp_path, "tiny", "blood", ["bloodmnist/0"], look=False)

    def gone(dataset, *_):
        raise DataError(f"'{dataset}.npz' is missing")

    monkeypatch.setattr("braincl_med.streams.medmnist.ensure", gone)
    with pytest.raises(DataError, match=r"'bloodmnist.npz' is missing"):
        run_experiment(config, cores_per_hospital=1)
    assert not (tmp_path / "submitted").exists()
