"""Hospitals that join an experiment that has begun, and that leave it for good."""

import numpy as np
import pytest
from pydantic import ValidationError

from braincl_med.federation.beginning import starting_point
from braincl_med.federation.checkpoint import folder_of, load_checkpoint
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.federation.rollback import go_back
from braincl_med.federation.seen import FOLDER, read_seen
from braincl_med.foundation.errors import FederationError
from braincl_med.records.store import RunStore
from braincl_med.streams.tasks import Registry, TaskSpec
from tests.federation.experiments import tiny


def run_until(config, task, phase="encode"):
    """Run until a phase of a task would begin."""
    exchange = local_exchange(local_hospitals(config))

    def stopping(order):
        if (order.task, order.phase) == (task, phase):
            raise FederationError("enough")
        return exchange(order)

    with pytest.raises(FederationError, match="enough"):
        Coordinator(config, stopping).run()


def files(state, site, task):
    return {p.name: p.read_bytes() for p in (state / f"site-{site}" / "tiny").glob(f"task-{task:03d}.*")}


def held(state, site, hospitals):
    vault = local_hospitals(tiny(state, federation_hospitals=hospitals))[site].vault
    return [entry.task for entry in vault.manifest().entries]


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """Two hospitals learn task 1, three task 2, and of these the first two task 3."""
    state = tmp_path_factory.mktemp("joined")
    run_until(tiny(state), 1)
    before = {site: files(state, site, 0) for site in range(2)}
    scans = RunStore(state).tally("tiny").scans
    run_until(tiny(state, federation_hospitals=3), 2)
    seen = [read_seen(state / f"site-{site}" / FOLDER / "tiny") for site in range(3)]
    run_locally(tiny(state, federation_hospitals=2))
    return state, before, scans, seen


def test_a_hospital_that_joins_learns_from_the_next_task_on_and_touches_nothing_of_the_others(joined):
    state, before, scans, _ = joined
    assert [files(state, site, 0) for site in range(2)] == [before[0], before[1]]
    assert [held(state, site, 3) for site in range(3)] == [[0, 1, 2], [0, 1, 2], [1]]
    now = RunStore(state).tally("tiny").scans
    assert (now[0, :2] == scans[0]).all()
    assert now[0, 2].sum() == 0
    steps = RunStore(state).steps("tiny")
    assert not [step for step in steps if step.missing], "nobody is blamed for what is not theirs"
    assert {step.task: len(step.hospitals) for step in steps} == {0: 2, 1: 3, 2: 2}


def test_old_tasks_are_evaluated_by_those_who_had_them_and_every_scan_once(joined):
    state = joined[0]
    tally = RunStore(state).tally("tiny")
    assert tally.hospitals == ("site-0", "site-1", "site-2")
    by_task = tally.scans[1]  # after task 2: (hospitals, classes)
    assert by_task.sum() == 36
    assert by_task[:, :3].sum(1).tolist() == [9, 9, 0]
    assert by_task[:, 3:6].sum(1).tolist() == [6, 6, 6]
    assert tally.scans[2, 2].sum() == 0


def test_shares_of_tasks_that_were_begun_stay_and_new_ones_are_dealt_anew(joined):
    state = joined[0]
    registry = load_checkpoint(folder_of(state, "tiny")).registry
    assert [task.dealt for task in registry.tasks] == [2, 3, None]
    three = local_hospitals(tiny(state, federation_hospitals=3))
    two = local_hospitals(tiny(state))
    first = build = Registry(tasks=tuple(task.over(None) for task in registry.tasks))
    for split in ("train", "test"):
        for site in range(2):
            now = three[site].source.scans(registry, 0, split)
            assert np.array_equal(now.images, two[site].source.scans(first, 0, split).images)
        assert len(three[2].source.scans(registry, 0, split)) == 0
    parts = [hospital.source.scans(registry, 1, "train").images for hospital in three]
    assert sum(map(len, parts)) == 36
    assert len(np.unique(np.concatenate(parts), axis=0)) == 36
    assert build.tasks[0].model_dump().keys() == {"name", "classes"}, "what is the rule is not said"


def test_everybody_has_the_same_classes(joined):
    state, _, _, seen = joined
    registry = load_checkpoint(folder_of(state, "tiny")).registry
    assert RunStore(state).experiment("tiny").registry == registry
    for number, one in enumerate(seen):
        assert len(one.tasks) == 2
        assert all(mine.is_as(task) for mine, task in zip(one.tasks, registry.tasks, strict=False)), number


def test_one_may_join_while_a_task_is_interrupted_and_has_nothing_of_it(tmp_path):
    run_until(tiny(tmp_path, stream_task_count=2), 0, "select")
    run_locally(tiny(tmp_path, stream_task_count=2, federation_hospitals=3, resume=True))
    assert [held(tmp_path, site, 3) for site in range(3)] == [[0, 1], [0, 1], [1]]
    assert load_checkpoint(folder_of(tmp_path, "tiny")).registry.tasks[0].dealt == 2
    steps = RunStore(tmp_path).steps("tiny")
    assert not [step for step in steps if step.missing]
    assert {len(step.hospitals) for step in steps if (step.task, step.phase) == (0, "sleep")} == {3}
    go_back(tmp_path, "tiny", "task-2")
    run_locally(tiny(tmp_path, stream_task_count=2, federation_hospitals=3, resume=True))
    assert RunStore(tmp_path).experiment("tiny").status == "finished"


def test_a_masked_sum_does_not_shrink_below_three(tmp_path):
    with pytest.raises(Exception, match="federation-masking needs 3 to"):
        starting_point(tiny(tmp_path, federation_hospitals=2, federation_masking="on"))


@pytest.mark.parametrize("dealt", [0, -1, 10**6])
def test_a_number_of_hospitals_that_is_none_is_refused(dealt):
    spec = {"name": "one", "classes": [{"dataset": "phantom-fundus", "label": 0, "name": "a"}], "dealt": dealt}
    with pytest.raises(ValidationError):
        TaskSpec.model_validate(spec)
