import sqlite3
from pathlib import Path

import numpy as np
import pytest

from braincl_med.foundation.errors import RecordsError
from braincl_med.foundation.files import locked
from braincl_med.foundation.places import server_folder
from braincl_med.records.database import STORE_NAME
from braincl_med.records.schema import SCHEMA_VERSION, Step
from braincl_med.records.store import RunStore
from tests.records.example_store import AUDIT, HOSPITALS, REAL, REGISTRY, begin, build_example, settings


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path, create=True)


def step(**changes: object) -> Step:
    values: dict[str, object] = {
        "task": 0,
        "position": 1,
        "phase": "wake",
        "round": 0,
        "seconds": 1.5,
        "bytes_down": 300,
        "bytes_up": 200,
        "loss": 0.25,
        "examples": 40,
        "hospitals": ("site-0", "site-1"),
        "missing": {"site-2": "no answer in time"},
    }
    return Step(**{**values, **changes})  # type: ignore[arg-type]


def test_an_experiment_comes_back_as_it_was_begun(store: RunStore) -> None:
    begin(store, "memories", data=REAL)
    found = store.experiment("memories")
    assert (found.name, found.method, found.seed, found.data) == ("memories", "braincl", 7, REAL)
    assert found.config == settings("memories", "braincl")
    assert found.registry == REGISTRY
    assert found.versions == {"python": "3.11.9", "torch": "2.11.0"}


@pytest.mark.parametrize("before", ["killed", "no lock at all"])
def test_a_run_is_running_only_while_somebody_holds_its_lock(tmp_path: Path, store: RunStore, before: str) -> None:
    begin(store, "memories")
    with locked(server_folder(tmp_path, "memories"), "it"):
        assert (store.experiment("memories").status, store.experiment("memories").message) == ("running", "")
    if before == "no lock at all":
        (server_folder(tmp_path, "memories") / ".lock").unlink()
    found = store.experiment("memories")
    assert found.status == "stopped"
    assert "--resume" in found.message
    with sqlite3.connect(store.path) as db:
        assert db.execute("SELECT status FROM experiment").fetchone() == ("running",), "nothing is stored of it"


def test_a_run_that_ends_between_two_looks_says_how_it_ended(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(store, "memories")

    def ending(_: Path) -> bool:
        store.end("memories", "finished")
        return False

    monkeypatch.setattr("braincl_med.records.store.is_locked", ending)
    assert (store.experiment("memories").status, store.experiment("memories").message) == ("finished", "")


def test_the_end_is_recorded_and_a_new_beginning_takes_it_back(store: RunStore) -> None:
    begin(store, "memories")
    started = store.experiment("memories").started
    store.end("memories", "failed", "only 1 of 3 hospitals answered")
    assert store.experiment("memories").status == "failed"
    assert store.experiment("memories").message == "only 1 of 3 hospitals answered"
    begin(store, "memories")
    assert store.experiment("memories").status != "failed"
    assert store.experiment("memories").started == started


def test_other_tasks_take_the_place_of_the_former(store: RunStore) -> None:
    begin(store, "memories")
    store.record_step("memories", step(task=1))
    store.record_step("memories", step(task=2))
    store.change_registry("memories", REGISTRY.model_copy(update={"tasks": REGISTRY.tasks[:2]}))
    assert store.experiment("memories").registry.tasks == REGISTRY.tasks[:2]
    assert [s.task for s in store.steps("memories")] == [1]


def test_steps_come_back_in_order_and_a_repeated_one_replaces_the_former(store: RunStore) -> None:
    begin(store, "memories")
    later, without_loss = step(task=1, position=0), step(position=0, loss=None, missing={})
    for kept in (later, step(seconds=99.0), without_loss, step()):
        store.record_step("memories", kept)
    assert store.steps("memories") == [without_loss, step(), later]


def test_a_step_is_a_sign_of_life(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(store, "memories")
    begin(store, "other")
    monkeypatch.setattr("braincl_med.records.store.now", lambda: "2999-01-01T00:00:00+00:00")
    store.record_step("memories", step())
    assert store.experiment("memories").updated == "2999-01-01T00:00:00+00:00"
    assert store.experiments() == ["memories", "other"]


def test_counts_come_back_by_task_and_hospital(store: RunStore) -> None:
    begin(store, "memories")
    first, second = np.array([[5, 1], [0, 7]]), np.arange(16).reshape(4, 4)
    store.record_evaluation("memories", 0, "b", first, {"energy": {"known-correct": [1, 2]}}, {"cues": 10})
    store.record_evaluation("memories", 0, "a", 2 * first, {"energy": {"known-correct": [0, 5]}}, {"cues": 7})
    store.record_evaluation("memories", 1, "a", second, {}, {"cues": 9, "records": 3})

    tally = store.tally("memories")

    assert tally.hospitals == ("a", "b")
    assert tally.scans.shape == (2, 2, 6)
    assert tally.correct[0, :, :2].tolist() == [[10, 14], [5, 7]]
    assert tally.scans[0, :, :2].tolist() == [[12, 14], [6, 7]]
    assert tally.scans[1, 0].tolist() == [*second.sum(1), 0, 0]
    assert tally.correct[1, 0].tolist() == [*np.diagonal(second), 0, 0]
    assert tally.latest[0, :4, :4].tolist() == second.tolist()
    assert tally.scans[1, 1].sum() == tally.latest[1].sum() == 0
    assert store.scores("memories", 0)["energy"]["known-correct"].tolist() == [1, 7]
    assert store.scores("memories", 1) == {}
    assert store.storage("memories") == [
        (0, "a", "cues", 7),
        (0, "b", "cues", 10),
        (1, "a", "cues", 9),
        (1, "a", "records", 3),
    ]


def test_a_repeated_evaluation_replaces_all_of_the_former(store: RunStore) -> None:
    begin(store, "memories")
    store.record_evaluation(
        "memories", 0, "a", np.array([[1, 2], [3, 4]]), {"energy": {"known-wrong": [9]}}, {"cues": 1, "tables": 2}
    )
    store.record_evaluation("memories", 0, "a", np.array([[5, 0], [0, 0]]), {}, {"cues": 3})
    assert store.tally("memories").scans.sum() == 5
    assert store.scores("memories", 0) == {}
    assert store.storage("memories") == [(0, "a", "cues", 3)]


def test_a_class_without_test_scans_keeps_its_row(store: RunStore) -> None:
    begin(store, "memories")
    store.record_evaluation("memories", 1, "a", np.diag([3, 3, 3, 0]), {}, {})
    assert store.tally("memories").scans.shape == (2, 1, 6)


def test_nothing_is_evaluated_yet(store: RunStore) -> None:
    begin(store, "memories")
    tally = store.tally("memories")
    assert tally.hospitals == ()
    assert tally.scans.shape == (0, 0, 0)
    assert store.steps("memories") == []
    assert store.last_audit() is None


def test_forgetting_an_experiment_leaves_the_others(tmp_path: Path) -> None:
    store = build_example(tmp_path)
    store.forget("memories")
    assert store.experiments() == ["no-memory"]
    assert store.tally("memories").hospitals == ()
    assert store.steps("memories") == []
    assert store.storage("memories") == []
    assert store.tally("no-memory").hospitals == HOSPITALS


def test_the_last_audit_comes_back(store: RunStore) -> None:
    store.record_audit(True, {"vaults": []})
    store.record_audit(False, AUDIT)
    audit = store.last_audit()
    assert audit is not None
    assert (audit.passed, audit.report) == (False, AUDIT)


def test_an_unknown_experiment_is_named_with_those_there_are(store: RunStore) -> None:
    begin(store, "memories")
    with pytest.raises(RecordsError, match=r"no experiment 'dreams' in the run store; it has: memories"):
        store.experiment("dreams")


def test_a_reader_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="run an experiment first"):
        RunStore(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_does_not_bring_back_a_deleted_store(tmp_path: Path) -> None:
    build_example(tmp_path)
    reader = RunStore(tmp_path)
    reader.path.unlink()
    with pytest.raises(RecordsError, match="cannot be used"):
        reader.experiments()
    assert not reader.path.exists()


def test_the_folders_name_may_hold_what_an_address_may_not(tmp_path: Path) -> None:
    folder = tmp_path / "état 100% ?mode=ro#x"
    build_example(folder)
    assert RunStore(folder).experiments()


def test_a_newer_programs_store_is_refused(store: RunStore) -> None:
    with sqlite3.connect(store.path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    for create in (False, True):
        with pytest.raises(RecordsError, match=rf"version {SCHEMA_VERSION + 1}, this program reads up to"):
            RunStore(store.path.parent, create=create)


def test_a_former_versions_store_has_no_examination_and_is_read_taken_back_and_forgotten(store: RunStore) -> None:
    with sqlite3.connect(store.path) as db:
        db.execute("DROP TABLE examination")
        db.execute("PRAGMA user_version = 2")
    name = "former"
    begin(store, name)
    reader = RunStore(store.path.parent)
    assert reader.examinations(name) == {}
    reader.take_back(name, 0, 0, "")
    reader.forget(name)
    assert name not in reader.experiments()
    assert RunStore(store.path.parent, create=True).examinations(name) == {}
    with sqlite3.connect(store.path) as db:
        assert db.execute("SELECT COUNT(*) FROM examination").fetchone() == (0,)


def test_a_former_versions_counts_are_summed_when_read_and_once_for_all_when_written(tmp_path: Path) -> None:
    store = build_example(tmp_path)
    expected = store.tally("memories")
    with sqlite3.connect(store.path) as db:
        db.execute("DROP TABLE tally")
        db.execute("PRAGMA user_version = 3")
    former = RunStore(tmp_path).tally("memories")
    RunStore(tmp_path, create=True)
    with sqlite3.connect(store.path) as db:
        db.execute("DELETE FROM confusion WHERE after_task < 2")
    for found in (former, RunStore(tmp_path).tally("memories")):
        assert found.hospitals == expected.hospitals
        for what in ("correct", "scans", "latest"):
            np.testing.assert_array_equal(getattr(found, what), getattr(expected, what))


@pytest.mark.parametrize(
    "content", [b"no database at all, but some text " * 40, b"SQLite format 3\0" + b"\xff" * 4000]
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STORE_NAME).write_bytes(content)
    with pytest.raises(RecordsError, match=STORE_NAME) as caught:
        RunStore(tmp_path).experiments()
    assert str(tmp_path) not in str(caught.value)


def test_an_empty_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / STORE_NAME).touch()
    with pytest.raises(RecordsError, match="cannot be used"):
        RunStore(tmp_path).experiments()


def test_a_file_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / STORE_NAME).mkdir()
    with pytest.raises(RecordsError, match=STORE_NAME):
        RunStore(tmp_path, create=True)
