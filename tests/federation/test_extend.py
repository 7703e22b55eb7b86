"""Tasks appended to an experiment, and taken back."""

import contextlib
import threading

import pytest

from braincl_med.federation import extend
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, save_checkpoint
from braincl_med.federation.extend import add_task, remove_task
from braincl_med.federation.local import local_hospitals, run_locally
from braincl_med.foundation.errors import ConfigError, DataError, LockedError
from braincl_med.foundation.files import locked
from braincl_med.messages.order import Order
from braincl_med.records.store import RunStore
from braincl_med.streams.sources import MedMnist
from tests.federation.experiments import as_if_learned, tiny


@pytest.fixture
def learned(tmp_path):
    """A state root whose experiment 'tiny' has nothing left to learn."""
    as_if_learned(tiny(tmp_path, stream_task_count=1))
    return tmp_path


def names(state):
    return [task.name for task in load_checkpoint(folder_of(state, "tiny")).registry.tasks]


def change(state, **values):
    folder = folder_of(state, "tiny")
    save_checkpoint(folder, load_checkpoint(folder).model_copy(update=values))


def missing(dataset, *_):
    raise DataError(f"'{dataset}.npz' is missing")


def test_of_two_that_add_at_once_one_is_refused_and_none_is_lost(learned, monkeypatch):
    loaded, outcomes = threading.Barrier(2), []
    existing = extend.existing

    def waiting(*arguments):
        found = existing(*arguments)
        with contextlib.suppress(threading.BrokenBarrierError):
            loaded.wait(0.5)
        return found

    monkeypatch.setattr(extend, "existing", waiting)

    def add(name, classes):
        try:
            outcomes.append(add_task(learned, "tiny", name, classes).tasks[-1].name)
        except LockedError:
            outcomes.append("refused")

    both = [
        threading.Thread(target=add, args=(name, [f"phantom-fundus/{label}"]))
        for label, name in enumerate(("one", "two"))
    ]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert outcomes.count("refused") == 1
    assert [n for n in outcomes if n != "refused"] == names(learned)[1:]


def test_a_task_without_scans_is_refused_unless_nobody_is_to_look(learned, monkeypatch):
    monkeypatch.setattr("braincl_med.streams.medmnist.ensure", missing)
    with pytest.raises(DataError, match=r"'bloodmnist.npz' is missing; --unchecked adds"):
        add_task(learned, "tiny", "blood", ["bloodmnist/0"])
    assert names(learned) == ["task-1"]
    add_task(learned, "tiny", "blood", ["bloodmnist/0"], look=False)
    assert names(learned) == ["task-1", "blood"]


def test_scans_are_looked_for_in_the_folder_that_is_named(learned, monkeypatch):
    looked = []
    monkeypatch.setattr(MedMnist, "held", lambda self, *place: looked.append(place))
    add_task(learned, "tiny", "blood", ["bloodmnist/0"], learned / "data")
    assert [(place[0], place[1], place[3].folder) for place in looked] == [
        ("bloodmnist", split, learned / "data") for split in ("train", "test")
    ]


def test_a_task_that_nobody_has_begun_is_taken_back_everywhere(learned, monkeypatch):
    before = RunStore(learned).experiment("tiny").registry
    monkeypatch.setattr("braincl_med.streams.medmnist.ensure", missing)
    add_task(learned, "tiny", "blood", ["bloodmnist/0"], look=False)
    registry = load_checkpoint(folder_of(learned, "tiny")).registry
    store = RunStore(learned)
    store.change_registry("tiny", registry)  # as the next run does, before it fails
    store.end("tiny", "failed", "no scans")

    assert remove_task(learned, "tiny", "blood") == before
    found = store.experiment("tiny")
    assert (found.status, found.message, found.registry) == ("finished", "", before)
    assert "nothing to learn" in run_locally(tiny(learned, stream_task_count=1))
    add_task(learned, "tiny", "fundus", ["phantom-fundus/0"])
    assert names(learned) == ["task-1", "fundus"]


def test_what_is_learned_begun_followed_or_unknown_stays(learned):
    with pytest.raises(ConfigError, match="task 'task-1' is learned"):
        remove_task(learned, "tiny", "task-1")
    with pytest.raises(ConfigError, match="has no task 'task-2'; it has: task-1"):
        remove_task(learned, "tiny", "task-2")
    add_task(learned, "tiny", "fundus", ["phantom-fundus/0"])
    change(learned, task=0)
    with pytest.raises(ConfigError, match="task 'task-1' is followed by 'fundus'"):
        remove_task(learned, "tiny", "task-1")
    change(learned, task=1, position=1)
    with pytest.raises(ConfigError, match="task 'fundus' is begun"):
        remove_task(learned, "tiny", "fundus")
    change(learned, position=0)
    with locked(folder_of(learned, "tiny"), "it"), pytest.raises(LockedError):
        remove_task(learned, "tiny", "fundus")
    assert names(learned) == ["task-1", "fundus"]


def test_a_task_that_a_simulated_hospital_has_encoded_already_stays(learned):
    registry = add_task(learned, "tiny", "fundus", ["phantom-fundus/0", "phantom-fundus/1"])
    hospital = local_hospitals(tiny(learned, stream_task_count=1))[1]
    assert not hospital.answer(Order("tiny", 1, "encode", 0, registry, {})).failure
    with pytest.raises(ConfigError, match="'site-1' has encoded task 'fundus' already"):
        remove_task(learned, "tiny", "fundus")


def test_a_wrong_name_leaves_no_folder_and_names_experiments_alone(learned):
    (learned / "server" / "forgotten").mkdir()
    with pytest.raises(ConfigError, match=r"no experiment 'nobody' in this state root; it has: tiny$"):
        add_task(learned, "nobody", "blood", ["bloodmnist/0"])
    assert not folder_of(learned, "nobody").exists()


@pytest.mark.parametrize("name", ["tiny/../tiny", "../server/tiny", "", "x" * 300])
def test_what_is_no_name_is_no_experiment(learned, name):
    with pytest.raises(ConfigError, match=r"no experiment .* in this state root; it has: tiny"):
        extend.existing(learned, name)
