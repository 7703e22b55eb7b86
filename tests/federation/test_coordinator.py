import dataclasses
import os
import shutil
import signal

import pytest
import torch

from braincl_med.federation import coordinator
from braincl_med.federation.beginning import starting_point
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, save_checkpoint
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.extend import add_task
from braincl_med.federation.hospital import Hospital
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.foundation.errors import BrainclError, ConfigError, FederationError, VaultError
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report, size_of
from braincl_med.records.store import RunStore
from braincl_med.records.summary import as_json, summarise
from braincl_med.records.table import table
from braincl_med.streams.named import build_registry
from tests.children import ended
from tests.federation.experiments import tiny


def figures(state, name="tiny"):
    """All of an experiment's results that do not depend on the clock."""
    store = RunStore(state)
    summary = as_json(summarise(store, name))
    steps = [dataclasses.replace(s, seconds=0) for s in store.steps(name)]
    counted = [store.tally(name).correct.tolist(), store.tally(name).latest.tolist()]
    return counted, store.storage(name), steps, summary["last-accuracy"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    state = tmp_path_factory.mktemp("finished")
    run_locally(tiny(state))
    return state


def test_a_whole_experiment_is_recorded(finished):
    store = RunStore(finished)
    experiment = store.experiment("tiny")
    assert experiment.status == "finished"
    assert "SYNTHETIC PHANTOM" in experiment.data
    phases = [s.phase for s in store.steps("tiny") if s.task == 1]
    assert phases == ["encode", "wake", "select", "sleep", "sleep", "calibrate", "evaluate"]
    tally = store.tally("tiny")
    assert tally.hospitals == ("site-0", "site-1")
    assert tally.scans.sum((1, 2)).tolist() == [18, 36, 54]
    kept = {(h, item): n for after, h, item, n in store.storage("tiny") if after == 2}
    # 12 scans a class over 2 hospitals, none above the limit of 8.
    assert kept["site-0", "records"] + kept["site-1", "records"] == 9 * 12
    assert all(s.bytes_down > 0 and s.bytes_up > 0 for s in store.steps("tiny"))
    assert "tiny" in table([summarise(store, "tiny")])


def test_sleep_trains_on_all_tasks_and_wake_on_the_new_one(finished):
    steps = {(s.task, s.phase): s for s in RunStore(finished).steps("tiny")}
    assert [steps[t, "wake"].examples for t in range(3)] == [36, 36, 36]
    assert [steps[t, "sleep"].examples for t in range(3)] == [36, 72, 108]


def test_the_same_seed_gives_the_same_results_and_another_seed_others(finished, tmp_path):
    run_locally(tiny(tmp_path / "again"))
    assert figures(tmp_path / "again") == figures(finished)
    run_locally(tiny(tmp_path / "other", seed=2, stream_task_count=1))
    losses = [
        [s.loss for s in RunStore(state).steps("tiny") if s.task == 0] for state in (tmp_path / "other", finished)
    ]
    assert losses[0] != losses[1]


def test_selection_keeps_k_a_class_at_each_hospital(tmp_path):
    config = tiny(tmp_path, selection_per_class=3, stream_task_count=1)
    run_locally(config)
    file = local_hospitals(config)[0].vault.load(0)
    assert [s.records for s in file.header.shards] == [3] * 9
    assert file.header.memory == "long-term"


def _run_and_be_killed(state, stop_at, place, overrides=None):
    """Run until the `stop_at`-th answer or saving of a checkpoint, in a child, which is killed before or after it."""
    calls = 0

    def deadly(function):
        def call(*arguments, **named):
            nonlocal calls
            calls += 1
            if calls == stop_at and place == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments, **named)
            if calls == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    if place == "saving":
        coordinator.save_checkpoint = deadly(coordinator.save_checkpoint)
    else:
        Hospital.answer = deadly(Hospital.answer)
    run_locally(tiny(state, **(overrides or {})))


@pytest.mark.parametrize(
    ("stop_at", "place"),
    [(1, "after"), (9, "before"), (10, "saving")],
)
def test_a_killed_run_resumes_to_the_same_results(finished, tmp_path, stop_at, place):
    assert ended(_run_and_be_killed, tmp_path, stop_at, place) == -signal.SIGKILL
    if load_checkpoint(folder_of(tmp_path, "tiny")) is not None:
        with pytest.raises(ConfigError, match="interrupted in task"):
            run_locally(tiny(tmp_path))
    run_locally(tiny(tmp_path, resume=True))
    assert figures(tmp_path) == figures(finished)
    networks = [load_checkpoint(folder_of(state, "tiny")).sha256 for state in (tmp_path, finished)]
    assert networks[0] == networks[1]


def test_a_finished_experiment_has_nothing_to_learn_until_a_task_is_added(tmp_path):
    config = tiny(tmp_path, stream_name="phantom", stream_task_count=2)
    # Two of three sets first: an experiment of explicit tasks that leaves the ultrasound for later.
    config = config.model_copy(
        update={
            "stream": config.stream.model_validate(
                {
                    "name": "tasks",
                    "tasks": [
                        {"name": "smear", "classes": ["phantom-smear/0", "phantom-smear/1"]},
                        {"name": "xray", "classes": ["phantom-xray/0", "phantom-xray/1"]},
                    ],
                    "train-per-class": 12,
                    "test-per-class": 6,
                }
            )
        }
    )
    run_locally(config)
    before = figures(tmp_path)
    assert "nothing to learn" in run_locally(config)

    with pytest.raises(ConfigError, match="already learned in task 'smear'"):
        add_task(tmp_path, "tiny", "again", ["phantom-smear/1"])
    with pytest.raises(ConfigError, match="'phantom-ultrasound/0' is named twice"):
        add_task(tmp_path, "tiny", "twice", ["phantom-ultrasound/0"] * 2)
    with pytest.raises(ConfigError, match="task name"):
        add_task(tmp_path, "tiny", "No Name", ["phantom-ultrasound/0"])
    with pytest.raises(ConfigError, match="no experiment 'nobody'"):
        add_task(tmp_path, "nobody", "more", ["phantom-ultrasound/0"])
    add_task(tmp_path, "tiny", "ultrasound", ["phantom-ultrasound/0", "phantom-ultrasound/1"])
    with pytest.raises(ConfigError, match="has not learned all"):
        add_task(tmp_path, "tiny", "more", ["phantom-xray/2"])

    run_locally(config)
    after = figures(tmp_path)
    assert [row[0][:4] for row in after[0][0][:2]] == [row[0][:4] for row in before[0][0]], (
        "what was recorded of old tasks must not change"
    )
    assert {s.task for s in after[2]} == {0, 1, 2}
    assert [s for s in after[2] if s.task < 2] == before[2]
    assert RunStore(tmp_path).experiment("tiny").registry.tasks[-1].name == "ultrasound"


def test_changed_settings_are_refused_by_name(finished):
    with pytest.raises(ConfigError, match=r"memory-step was 1\.0, is 0\.5"):
        run_locally(tiny(finished, memory_step=0.5))


def test_how_a_task_is_learned_may_change_between_tasks_and_not_within_one(finished):
    folder = folder_of(finished, "tiny")
    whole = load_checkpoint(folder)
    changed = tiny(finished, sleep_epochs=7, federation_hospitals=3)
    start = starting_point(changed)
    assert start.settings == changed.as_result_settings()
    assert start.changes == (
        "from task 4 on: federation-hospitals was 2, is 3",
        "from task 4 on: sleep-epochs was 2, is 7",
    )
    save_checkpoint(folder, whole.model_copy(update={"task": 1, "position": 2}))
    with pytest.raises(ConfigError, match="other settings: sleep-epochs was 2, is 7; use the former"):
        starting_point(changed)
    save_checkpoint(folder, whole)


def failing(exchange, answer, from_phase="sleep"):
    """An exchange whose last hospital answers with `answer(order, report)` from a phase on."""

    def call(order):
        *others, last = exchange(order)
        changed = answer(order, last) if order.phase == from_phase else last
        return [*others, *([changed] if changed is not None else [])]

    return call


def poisoned(order, report):
    weights = {**report.weights, "classifier.bias": report.weights["classifier.bias"] * float("nan")}
    return dataclasses.replace(report, weights=weights)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda order, report: None, "site-1: not connected"),
        (lambda order, report: Report("site-1", failure="the disk is full"), "site-1: the disk is full"),
        (poisoned, "site-1: 'classifier.bias' holds numbers that are not finite"),
    ],
)
def test_a_hospital_that_fails_is_named_and_the_quorum_decides(tmp_path, answer, reason):
    few = {"stream_train_per_class": 4, "stream_test_per_class": 2, "selection_per_class": 4}
    strict = tiny(tmp_path / "strict", **few)
    with pytest.raises(FederationError, match="1 of 2 hospitals gave a usable answer") as failed:
        Coordinator(strict, failing(local_exchange(local_hospitals(strict)), answer)).run()
    assert reason in str(failed.value)
    record = RunStore(tmp_path / "strict").experiment("tiny")
    assert (record.status, record.message) == ("failed", str(failed.value))

    lenient = tiny(tmp_path / "lenient", federation_quorum=1, stream_task_count=2, **few)
    Coordinator(lenient, failing(local_exchange(local_hospitals(lenient)), answer)).run()
    missing = [s.missing for s in RunStore(tmp_path / "lenient").steps("tiny") if s.phase == "sleep"]
    assert len(missing) == 4
    assert all(list(m) == ["site-1"] for m in missing)


@pytest.mark.parametrize("missed", ["encode", "select"])
def test_a_hospital_makes_up_for_what_it_missed(tmp_path, missed):
    settings = {"stream_task_count": 2, "selection_per_class": 3, "sleep_rounds": 1, "federation_quorum": 1}
    config, whole = tiny(tmp_path / "missing", **settings), tiny(tmp_path / "whole", **settings)

    def losing(order):
        # Whoever was away for the encoding was away for the whole task.
        away = order.task == 0 and missed in (order.phase, "encode")
        return local_exchange(local_hospitals(config)[: 1 if away else 2])(order)

    Coordinator(config, losing).run()
    run_locally(whole)
    late, always = (local_hospitals(c)[1].vault for c in (config, whole))
    assert [(e.task, e.memory) for e in late.manifest().entries] == [(0, "long-term"), (1, "long-term")]
    assert [late.load(task).records for task in range(2)] == [always.load(task).records for task in range(2)]


def test_what_was_erased_is_not_made_up_for(tmp_path):
    config = tiny(tmp_path, stream_task_count=2)
    hospital = local_hospitals(config)[0]
    registry = build_registry(config.stream, config.seed)
    assert not hospital.answer(Order("tiny", 0, "encode", 0, registry, {})).failure
    for spec in registry.tasks[0].classes:
        hospital.vault.erase(0, spec.key)
    assert not hospital.answer(Order("tiny", 1, "encode", 0, registry, {})).failure
    assert [e.task for e in hospital.vault.manifest().entries] == [1]


def test_a_run_that_was_killed_before_it_was_recorded_as_finished_is_recorded_so(tmp_path):
    run_locally(tiny(tmp_path, stream_task_count=1, method="finetune"))
    RunStore(tmp_path).end("tiny", "failed", "stopped by SystemExit; resume continues it")
    assert "nothing to learn" in run_locally(tiny(tmp_path, stream_task_count=1, method="finetune"))
    assert RunStore(tmp_path).experiment("tiny").status == "finished"


@pytest.mark.parametrize("content", ["{}", "[]", "[" * 10**5, '{"checkpoint":' * 10**5])
def test_a_damaged_checkpoint_is_refused_in_one_sentence(tmp_path, content):
    (tmp_path / "checkpoint.json").write_text(content)
    with pytest.raises(VaultError, match=r"^'checkpoint.json' is not a checkpoint: \w+$"):
        load_checkpoint(tmp_path)


def test_records_of_a_run_whose_checkpoint_is_lost_do_not_mix_with_the_next(tmp_path):
    run_locally(tiny(tmp_path, stream_task_count=2, method="finetune", sleep_rounds=1))
    shutil.rmtree(folder_of(tmp_path, "tiny"))
    config = tiny(tmp_path, stream_task_count=2, method="joint", seed=7, sleep_rounds=1)

    def stopping(order):
        if order.task:
            raise FederationError("enough")
        return local_exchange(local_hospitals(config))(order)

    with pytest.raises(FederationError, match="enough"):
        Coordinator(config, stopping).run()
    summary = summarise(RunStore(tmp_path), "tiny")
    assert (summary.method, summary.seed, summary.evaluated) == ("joint", 7, 1)


def test_two_hospitals_of_one_name_are_refused(tmp_path):
    config = tiny(tmp_path)
    with pytest.raises(FederationError, match="two hospitals answer as 'site-0'"):
        Coordinator(config, local_exchange([local_hospitals(config)[0]] * 2)).run()


def test_a_change_of_threads_is_recorded_and_said(tmp_path, caplog):
    config = tiny(tmp_path, method="finetune", stream_task_count=1, sleep_rounds=2)
    exchange = local_exchange(local_hospitals(config))

    def resumed_on_another_machine(order):
        threads = 1 if (order.phase, order.round) == ("train", 0) else 4
        return [dataclasses.replace(report, threads=threads) for report in exchange(order)]

    Coordinator(config, resumed_on_another_machine).run()
    said = [r.getMessage() for r in caplog.records if "threads" in r.getMessage()]
    assert len(said) == 2
    assert said[0].startswith("site-0 computes with 4 threads and did with 1")
    assert load_checkpoint(folder_of(tmp_path, "tiny")).threads == {"site-0": 4, "site-1": 4}


def test_nothing_is_sent_that_a_phase_does_not_need_and_only_what_was_sent_is_counted(tmp_path):
    config = tiny(tmp_path, stream_task_count=1, federation_hospitals=3, federation_quorum=2)
    exchange, sent = local_exchange(local_hospitals(config)[:2]), {}

    def watching(order):
        sent[order.phase, order.round] = (set(order.weights), size_of(order))
        return exchange(order)

    Coordinator(config, watching).run()
    assert not sent["encode", 0][0]
    assert all(names for (phase, _), (names, _) in sent.items() if phase != "encode")
    for step in RunStore(tmp_path).steps("tiny"):
        assert step.bytes_down == 2 * sent[step.phase, step.round][1]
        assert step.missing == {"unnamed-1": "not connected"}


def test_a_second_server_on_one_experiment_is_refused(tmp_path):
    from braincl_med.foundation.files import locked

    with (
        locked(folder_of(tmp_path, "tiny"), "it"),
        pytest.raises(BrainclError, match=f"experiment 'tiny' is being written by process {os.getpid()}"),
    ):
        run_locally(tiny(tmp_path))


def test_methods_to_compare_with_train_on_what_they_may(tmp_path):
    for method, expected in (("finetune", [60, 48]), ("joint", [60, 108])):
        run_locally(tiny(tmp_path, name=method, method=method, stream_task_count=2, sleep_rounds=1, sleep_epochs=1))
        steps = [s for s in RunStore(tmp_path).steps(method) if s.phase == "train" and s.round == 0]
        assert [s.examples for s in steps] == expected
        assert not (tmp_path / "site-0" / method).exists()


def test_a_long_tail_takes_no_further_task(tmp_path):
    run_locally(tiny(tmp_path, method="finetune", stream_task_count=1, stream_imbalance=2, sleep_rounds=1))
    with pytest.raises(ConfigError, match="long tail"):
        add_task(tmp_path, "tiny", "more", ["phantom-fundus/0"])


def test_without_sleep_the_backbone_never_changes_and_memory_stays_working(tmp_path):
    config = tiny(tmp_path, sleep_enabled=False, stream_task_count=2)
    seen = []
    exchange = local_exchange(local_hospitals(config))

    def watching(order):
        seen.append(order)
        return exchange(order)

    Coordinator(config, watching).run()
    backbones = [o.weights["backbone.conv1.weight"] for o in seen if o.phase == "evaluate"]
    assert all(torch.equal(backbones[0], b) for b in backbones)
    assert {e.memory for e in local_hospitals(config)[0].vault.manifest().entries} == {"working"}


def test_unknown_scans_are_scored_near_until_learned_and_far_always(finished):
    store = RunStore(finished)
    first, last = store.scores("tiny", 0)["max-softmax"], store.scores("tiny", 2)["max-softmax"]
    assert first["unknown-near"].sum() == 36
    assert "unknown-near" not in last
    assert last["unknown-far"].sum() == first["unknown-far"].sum() > 0
    known = last["known-correct"] + last["known-wrong"]
    assert known.sum() == store.tally("tiny").scans[2].sum()
