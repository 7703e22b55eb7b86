"""How an experiment stands, whichever way its run ended: real processes that are ended."""

import json
import os
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from apps.cli.main import app
from braincl_med.federation.coordinator import Coordinator
from braincl_med.foundation.files import canonical_json, locked
from braincl_med.foundation.places import server_folder
from braincl_med.records import alive
from braincl_med.records.alive import NAME, SILENT_SECONDS, heartbeat, read_sign
from braincl_med.records.schema import Step
from braincl_med.records.standing import in_words, standing_of
from braincl_med.records.store import RunStore
from tests.children import started
from tests.federation.experiments import tiny
from tests.records.example_store import begin

FOLDER = "memories"


def _waiting(state):
    """A run whose hospitals never answer to its first order."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def exchange(order):
        time.sleep(600)

    Coordinator(tiny(state), exchange).run()


@pytest.fixture
def run(tmp_path):
    """A process whose first step is in progress."""
    process = started(_waiting, tmp_path)
    deadline = time.monotonic() + 120
    while read_sign(server_folder(tmp_path, "tiny")) is None and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    yield process
    process.kill()
    process.join()


def status(state, *arguments):
    return CliRunner().invoke(app, ["status", *arguments, "--state", str(state)])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_ended_in_any_way_is_told_from_one_that_runs(tmp_path, run, number):
    asked = status(tmp_path, "tiny")
    assert asked.exit_code == 0
    assert asked.output.startswith("tiny: running\n  in encode round 1 of task 'task-1' (task 1 of 3), for ")
    assert f"(process {run.pid} on " in asked.output
    assert "time to go: unknown until a task is learned" in asked.output
    os.kill(run.pid, number)
    run.join(60)
    asked = status(tmp_path)
    assert asked.exit_code == 1
    assert asked.output.startswith("tiny: stopped: ")
    assert "ended in encode round 1 of task 'task-1'" in asked.output
    found = json.loads(CliRunner().invoke(app, ["results", "--json", "--state", str(tmp_path)]).output)[0]
    assert (found["status"], found["standing"]["status"], found["standing"]["phase"]) == (
        "stopped",
        "stopped",
        "encode",
    )


def test_a_process_that_hangs_is_not_running_for_the_lock_alone(tmp_path):
    store = RunStore(tmp_path, create=True)
    begin(store, FOLDER)
    folder = server_folder(tmp_path, FOLDER)
    with locked(folder, "it"), heartbeat(folder) as heart:
        heart.begins(0, 1, "wake", 0)
        assert standing_of(store, FOLDER).status == "running"
        for silent, expected in (
            (SILENT_SECONDS - 60, "running"),
            (SILENT_SECONDS + 60, "stopped"),
            (3600, "stopped"),
        ):
            past = (datetime.now(UTC) - timedelta(seconds=silent)).isoformat(timespec="seconds")
            old = replace(read_sign(folder), time=past)
            (folder / NAME).write_bytes(canonical_json(old.__dict__))
            with store._connection() as db:
                db.execute("UPDATE experiment SET updated=?", (past,))
            found = standing_of(store, FOLDER)
            assert found.status == expected
            assert abs(found.silent_seconds - silent) < 30
        assert "end that process" in found.message
        heart.beat()
        assert standing_of(store, FOLDER).status == "running", "it was only held for a while"


def test_signs_go_on_while_a_step_takes_long_and_end_with_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(alive, "BEAT_SECONDS", 0.05)
    with heartbeat(tmp_path) as heart:
        assert read_sign(tmp_path) is None
        heart.begins(2, 3, "sleep", 1)
        (tmp_path / NAME).unlink()
        deadline = time.monotonic() + 60
        while read_sign(tmp_path) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        sign = read_sign(tmp_path)
    assert (sign.task, sign.position, sign.phase, sign.round, sign.process) == (2, 3, "sleep", 1, os.getpid())
    (tmp_path / NAME).unlink()
    time.sleep(0.2)
    assert read_sign(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"time": 1}', b"\xff", b"[" * 100_000])
def test_a_sign_that_cannot_be_read_is_none(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    assert read_sign(tmp_path) is None


@pytest.mark.parametrize(
    "wrong",
    [{"task": "0"}, {"task": -5}, {"position": 1.5}, {"round": None}, {"phase": 3}, {"time": "soon"}, {"since": ""}],
)
def test_a_sign_of_wrong_values_is_none(tmp_path, wrong):
    with heartbeat(tmp_path) as heart:
        heart.begins(0, 1, "wake", 0)
    told = json.loads((tmp_path / NAME).read_bytes())
    assert read_sign(tmp_path) is not None
    (tmp_path / NAME).write_bytes(canonical_json({**told, **wrong}))
    assert read_sign(tmp_path) is None


def _done(store, task, position, phase, seconds, missing=None):
    present = tuple(f"site-{n}" for n in range(3) if f"site-{n}" not in (missing or {}))
    store.record_step(FOLDER, Step(task, position, phase, 0, seconds, 1, 1, None, 1, present, missing or {}))


def test_the_time_to_go_is_that_of_the_last_task_learned(tmp_path):
    store = RunStore(tmp_path, create=True)
    begin(store, FOLDER)  # of three tasks
    tasks = len(store.experiment(FOLDER).registry.tasks)
    assert standing_of(store, FOLDER).seconds_to_go is None
    for position, (phase, seconds) in enumerate((("encode", 10.0), ("sleep", 100.0), ("evaluate", 5.0))):
        _done(store, 0, position, phase, seconds)
    assert standing_of(store, FOLDER).seconds_to_go == 115 * (tasks - 1)
    _done(store, 1, 0, "encode", 12.0, {"site-2": "not connected"})
    found = standing_of(store, FOLDER)
    assert found.seconds_to_go == 105 + 115 * (tasks - 2)
    assert (found.present, found.missing) == (("site-0", "site-1"), {"site-2": "not connected"})
    said = in_words(found)
    assert "hospitals in the last step done: 2 of " in said
    assert "missing: site-2: not connected" in said
    assert "estimated from the last task that was learned" in said
    store.end(FOLDER, "finished")
    assert standing_of(store, FOLDER).seconds_to_go == 0
    assert "time to go" not in in_words(standing_of(store, FOLDER))


def test_the_step_in_progress_shortens_the_time_to_go_and_an_old_sign_tells_no_step(tmp_path):
    store = RunStore(tmp_path, create=True)
    begin(store, FOLDER)
    folder = server_folder(tmp_path, FOLDER)
    for position, phase in enumerate(("encode", "sleep", "evaluate")):
        _done(store, 0, position, phase, 100.0)
    with locked(folder, "it"), heartbeat(folder) as heart:
        heart.begins(1, 0, "encode", 0)
        before = standing_of(store, FOLDER)
        past = (datetime.now(UTC) - timedelta(seconds=60)).isoformat(timespec="seconds")
        (folder / NAME).write_bytes(canonical_json(replace(read_sign(folder), since=past).__dict__))
        after = standing_of(store, FOLDER)
        assert 55 < before.seconds_to_go - after.seconds_to_go < 100
        assert after.place == f"encode round 1 of task '{after.task}' (task 2 of {after.tasks})"
    _done(store, 1, 1, "sleep", 1.0)
    assert standing_of(store, FOLDER).phase == "sleep"
    assert standing_of(store, FOLDER).process == ""
