"""Going back to a former checkpoint: what is kept, what a run from there ends with, and what is refused."""

import dataclasses
import shutil

import pytest
import torch
from typer.testing import CliRunner

from apps.cli.main import app
from braincl_med.federation import checkpoint as checkpoints
from braincl_med.federation import rollback
from braincl_med.federation.beginning import starting_point
from braincl_med.federation.checkpoint import (
    FORMER,
    folder_of,
    former_checkpoints,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.extend import add_task
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.federation.rollback import go_back, points_of
from braincl_med.foundation.errors import ConfigError, FederationError, LockedError, VaultError
from braincl_med.foundation.files import locked
from braincl_med.records.store import RunStore
from tests.federation.experiments import tiny
from tests.federation.test_coordinator import figures


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    state = tmp_path_factory.mktemp("learned")
    run_locally(tiny(state))
    return state


@pytest.fixture
def copied(learned, tmp_path):
    """A state root of its own, in which all three tasks are learned."""
    return shutil.copytree(learned, tmp_path / "state")


def network(state):
    return load_checkpoint(folder_of(state, "tiny")).sha256


def test_the_last_steps_and_the_ends_of_tasks_are_kept_with_their_networks_and_nothing_else(learned):
    folder = folder_of(learned, "tiny")
    former, now = former_checkpoints(folder), load_checkpoint(folder)
    assert [one.place for one in former] == [(1, 0), (2, 0), (2, 3), (2, 4), (2, 5), (2, 6)]
    assert all(load_weights(folder, one) for one in former)
    files = {path.name for path in (*folder.glob("*.safetensors"), *(folder / FORMER).glob("*.safetensors"))}
    assert files == set().union(now.files, *(one.files for one in former))


@pytest.mark.parametrize("target", ["task-2", "task-3", "task-3/sleep/2", "task-3/sleep"])
def test_a_run_from_a_former_checkpoint_ends_with_the_same_bits(learned, copied, target):
    said = go_back(copied, "tiny", target)
    store = RunStore(copied)
    found = store.experiment("tiny")
    assert found.status == "stopped"
    assert "--resume goes on" in found.message
    back = load_checkpoint(folder_of(copied, "tiny"))
    assert all((step.task, step.position) < back.place for step in store.steps("tiny"))
    assert store.tally("tiny").tasks == back.task
    assert [one for one in former_checkpoints(folder_of(copied, "tiny")) if one.place >= back.place] == []
    assert ("they hold what they selected" in said) == (target in ("task-2", "task-3"))
    run_locally(tiny(copied, resume=True))
    assert network(copied) == network(learned)
    confusion, storage, steps, last = figures(copied)
    expected = figures(learned)
    # Evaluated once more, a hospital tells of the bytes that it keeps of later tasks too.
    steps, others = ([dataclasses.replace(step, bytes_up=0) for step in each] for each in (steps, expected[2]))
    assert (confusion, steps, last) == (expected[0], others, expected[3])
    assert [row for row in storage if row[0] == 2] == [row for row in expected[1] if row[0] == 2]


def test_what_select_threw_away_is_not_needed_by_what_follows_it(tmp_path):
    config = tiny(tmp_path, selection_per_class=3, stream_task_count=2)
    run_locally(config)
    before = network(tmp_path)
    go_back(tmp_path, "tiny", "task-2/sleep/1")
    run_locally(tiny(tmp_path, selection_per_class=3, stream_task_count=2, resume=True))
    assert network(tmp_path) == before


def test_a_task_that_was_begun_again_may_be_trained_otherwise_but_not_be_encoded_otherwise(copied):
    go_back(copied, "tiny", "task-3")
    assert starting_point(tiny(copied, sleep_epochs=7)).changes == ("from task 3 on: sleep-epochs was 2, is 7",)
    with pytest.raises(ConfigError, match="stream-train-per-class was 12, is 11"):
        starting_point(tiny(copied, stream_train_per_class=11))


def test_a_task_that_was_added_since_stays(copied):
    add_task(copied, "tiny", "more", ["phantom-fundus/0"])  # which tiny's own three tasks do not have
    go_back(copied, "tiny", "task-3")
    assert load_checkpoint(folder_of(copied, "tiny")).registry.tasks[-1].name == "more"
    run_locally(tiny(copied, resume=True))
    assert RunStore(copied).experiment("tiny").status == "finished"


def test_what_is_not_kept_is_refused_with_a_list_and_nothing_changes(copied):
    for target in ("task-1", "task-2/sleep/1", "task-3/sleep/9", "task-3/nap", ""):
        with pytest.raises(ConfigError, match=r"it keeps: task-2, task-3, task-3/sleep/1, task-3/sleep/2"):
            go_back(copied, "tiny", target)
    with pytest.raises(ConfigError, match="no experiment 'nobody'"):
        go_back(copied, "nobody", "task-1")
    with locked(folder_of(copied, "tiny"), "experiment 'tiny'"), pytest.raises(LockedError):
        go_back(copied, "tiny", "task-3")
    assert load_checkpoint(folder_of(copied, "tiny")).finished


def test_a_damaged_former_network_changes_nothing(copied):
    folder = folder_of(copied, "tiny")
    target = next(point for point in points_of(copied, "tiny") if point.name == "task-3/sleep/2")
    path = folder / FORMER / target.checkpoint.weights
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(VaultError, match="was changed or damaged"):
        go_back(copied, "tiny", "task-3/sleep/2")
    assert load_checkpoint(folder).finished


def test_a_former_checkpoint_that_cannot_be_read_does_not_stop_a_run(copied):
    folder = folder_of(copied, "tiny")
    (folder / FORMER / "0001-0000.json").write_bytes(b"{")
    save_checkpoint(folder, load_checkpoint(folder))
    assert former_checkpoints(folder)[0].place == (2, 0)


def test_killed_between_the_steps_of_a_save_all_former_ones_can_still_be_loaded(copied, monkeypatch):
    folder = folder_of(copied, "tiny")
    go_back(copied, "tiny", "task-3/sleep/2")
    now = load_checkpoint(folder)
    moved = {name: tensor + 1 for name, tensor in load_weights(folder, now).items()}

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "_put_away", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(folder, now.model_copy(update={"position": now.position + 1}), moved)
    assert former_checkpoints(folder)[-1] == now
    assert all(load_weights(folder, one) for one in former_checkpoints(folder))


@pytest.mark.parametrize("before", ["save_checkpoint", "forget_sign"])
def test_killed_while_it_goes_back_an_experiment_is_not_finished_where_steps_are_left(copied, monkeypatch, before):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rollback, before, killed)
        with pytest.raises(KeyboardInterrupt):
            go_back(copied, "tiny", "task-3/sleep/2")
    left = RunStore(copied).experiment("tiny")
    assert left.status == "stopped"
    assert "going back" in left.message
    go_back(copied, "tiny", "task-3/sleep/2")
    assert RunStore(copied).steps("tiny")[-1].position == 3
    assert "it was set back" in RunStore(copied).experiment("tiny").message


def test_the_command_lists_and_goes_back(copied):
    run = CliRunner()
    listed = run.invoke(app, ["rollback", "tiny", "--state", str(copied)])
    assert listed.output.splitlines()[0] == "task-2  (before encode round 1 of task 'task-2')"
    done = run.invoke(app, ["rollback", "tiny", "--to", "task-3/sleep/2", "--state", str(copied)])
    assert done.output.startswith("'tiny' is back, before sleep round 2 of task 'task-3'")
    again = run.invoke(app, ["rollback", "tiny", "--to", "task-3/sleep/2", "--state", str(copied)])
    assert again.output.startswith("'tiny' stands there already")


@pytest.mark.parametrize(("value", "reason"), [(float("nan"), "not finite"), (1e30, "hospitals take at most")])
def test_a_poisoned_network_never_takes_the_place_of_the_last_good_one(tmp_path, monkeypatch, value, reason):
    config = tiny(tmp_path, stream_task_count=1)
    exchange = local_exchange(local_hospitals(config))

    def poisoned(order):
        reports = exchange(order)
        if (order.phase, order.round) != ("sleep", 1):
            return reports
        spoilt = {
            name: torch.full_like(t, value) if t.is_floating_point() else t for name, t in order.weights.items()
        }
        return [dataclasses.replace(report, weights=spoilt) for report in reports]

    # Nothing before it may catch what is joined.
    monkeypatch.setattr("braincl_med.federation.exchange.Hospitals._objection", lambda *_: "")
    monkeypatch.setattr("braincl_med.federation.exchange.implausible", lambda *_: {})
    with pytest.raises(FederationError, match=reason):
        Coordinator(config, poisoned).run()
    folder = folder_of(tmp_path, "tiny")
    left = load_checkpoint(folder)
    assert left.place == (0, 4)
    assert all(bool(torch.isfinite(t).all()) for t in load_weights(folder, left).values())
    run_locally(tiny(tmp_path, stream_task_count=1, resume=True))
    assert RunStore(tmp_path).experiment("tiny").status == "finished"
