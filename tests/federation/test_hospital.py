import json
from dataclasses import replace

import numpy as np
import pytest

from braincl_med.cortex.cortex import Cortex
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.foundation.errors import FederationError, MissingScansError, VaultError
from braincl_med.messages.order import LONGEST_TEXT, Order
from braincl_med.messages.report import Report
from braincl_med.methods.braincl import memory_key
from braincl_med.privacy.search import Probes
from braincl_med.records.store import RunStore
from braincl_med.streams.named import build_registry
from braincl_med.streams.source import ScanSource
from braincl_med.streams.tasks import Scans
from tests.federation.experiments import tiny


def order(config, phase, task=0, weights=None):
    registry = build_registry(config.stream, config.seed)
    return Order(config.name, task, phase, 0, registry, weights or {})


def test_no_raw_scan_lies_below_the_state_root_after_a_run(tmp_path):
    many = {"stream_train_per_class": 30, "selection_per_class": 30, "memory_step": 0.1, "memory_components": 192}
    config = tiny(tmp_path, **many, wake_epochs=1, sleep_rounds=1, sleep_epochs=1)
    run_locally(config)
    registry = build_registry(config.stream, config.seed)
    scans = np.concatenate(
        [
            hospital.source.scans(registry, task, split).images
            for hospital in local_hospitals(config)
            for task in range(len(registry.tasks))
            for split in ("train", "test")
        ]
    )
    assert len(scans) == 9 * (30 + 6)
    probes = Probes(scans)
    assert probes.findings(tmp_path) == []
    # The same search does find a scan once one is there.
    (tmp_path / "site-0" / "left-behind").write_bytes(b"header" + scans[7].tobytes())
    assert len(probes.findings(tmp_path)) >= 1


def test_encoding_twice_changes_nothing_and_another_experiment_of_the_name_is_refused(tmp_path):
    hospital = local_hospitals(tiny(tmp_path))[0]
    first = hospital.answer(order(hospital.config, "encode"))
    entry = hospital.vault.entry(0)
    assert first.examples > 0
    assert hospital.answer(order(hospital.config, "encode")) == first
    assert hospital.vault.entry(0) == entry
    other = local_hospitals(tiny(tmp_path, seed=9))[0]
    assert "already holds task 0 of another experiment" in other.answer(order(other.config, "encode")).failure
    assert hospital.vault.entry(0) == entry


def test_a_named_hospital_that_is_given_the_share_of_another_is_refused(tmp_path):
    first, second = local_hospitals(tiny(tmp_path))
    named = replace(first, name="north")
    assert named.answer(order(named.config, "encode")).examples > 0
    swapped = replace(named, source=second.source)
    assert "already holds task 0 of another" in swapped.answer(order(named.config, "encode")).failure
    assert named.answer(order(named.config, "encode")).failure == ""


def test_the_key_of_a_simulated_hospitals_memory_stays_what_it_was(tmp_path):
    """Pinned: under another key a run that is resumed would not find what it has encoded."""
    hospital = local_hospitals(tiny(tmp_path))[0]
    first = order(hospital.config, "encode")
    key = memory_key(hospital, first.registry, 0)
    assert key == "ec2f56b67d111710a079446755a25866e6ab8bf166de2a311d493f5adea26a12"
    unofficial = replace(hospital, config=tiny(tmp_path, stream_allow_unofficial=True))
    assert memory_key(unofficial, first.registry, 0) != key


def test_the_labels_of_a_task_guide_its_memory(tmp_path):
    stored = []
    for guidance in (0, 0.5):
        hospital = local_hospitals(tiny(tmp_path / str(guidance), memory_guidance=guidance))[0]
        assert hospital.answer(order(hospital.config, "encode")).examples > 0
        stored.append(hospital.vault.recall(0).images)
    assert not np.array_equal(*stored)


@pytest.mark.parametrize("evaluated", ["test", "val"])
def test_raw_training_scans_are_read_in_encode_only(tmp_path, evaluated):
    config = tiny(tmp_path, stream_evaluate=evaluated)
    hospitals = local_hospitals(config)
    asked = []

    class Watched:
        def __init__(self, source):
            self.source, self.hospital = source, source.hospital

        def scans(self, registry, task, split):
            asked.append((phase, split))
            return self.source.scans(registry, task, split)

        def unknown(self, dataset):
            return self.source.unknown(dataset)

    for hospital in hospitals:
        object.__setattr__(hospital, "source", Watched(hospital.source))
    exchange = local_exchange(hospitals)

    def watching(sent):
        nonlocal phase
        phase = sent.phase
        return exchange(sent)

    phase = ""
    Coordinator(config, watching).run()
    assert {p for p, split in asked if split == "train"} == {"encode"}
    assert {p for p, split in asked if split == evaluated} == {"evaluate"}
    assert {p for p, split in asked if split == "val"} == {"evaluate"}
    assert {split for _, split in asked} == {"train", evaluated, "val"}


def test_an_unexpected_error_leaves_the_hospital_as_one_sentence(tmp_path, monkeypatch):
    hospital = local_hospitals(tiny(tmp_path))[0]
    monkeypatch.setattr("braincl_med.methods.braincl.fit", lambda *_: 1 / 0)
    report = hospital.answer(order(hospital.config, "encode"))
    assert report.failure == "unexpected ZeroDivisionError in encode; see the local log"


def test_orders_outside_the_hospitals_own_schedule_and_experiment_are_refused(tmp_path):
    hospital = local_hospitals(tiny(tmp_path))[0]
    sound = order(hospital.config, "encode")
    for change, reason in (
        (
            {"phase": "dance"},
            "phase 'dance' is not in the schedule of this experiment, which has: encode, ",
        ),
        ({"phase": "train"}, "round 0 of phase 'train' is not in the schedule"),
        ({"phase": "sleep", "round": 2}, "round 2 of phase 'sleep' is not in the schedule"),
        ({"task": 3}, "the order is for task 3, there are 3"),
        ({"experiment": "../site-1/tiny"}, "takes part in 'tiny', the order is for '../site-1/tiny'"),
    ):
        report = hospital.answer(replace(sound, **change))
        assert reason in report.failure
    assert not list(tmp_path.iterdir())


def test_what_diverged_or_was_not_asked_for_does_not_leave_a_hospital(tmp_path, monkeypatch):
    config = tiny(tmp_path, method="finetune", sleep_learning_rate=1e30)
    diverged = Cortex(3, config.cortex).weights()
    report = local_hospitals(config)[0].answer(order(config, "train", weights=diverged))
    assert "holds numbers that are not finite; if training diverged, lower its learning rate" in report.failure
    assert not report.weights
    hospital = local_hospitals(tiny(tmp_path))[0]
    monkeypatch.setattr(
        "braincl_med.methods.braincl.check", lambda folder: (_ for _ in ()).throw(VaultError("a file is missing"))
    )
    assert hospital.answer(order(hospital.config, "encode")).failure == "a file is missing"


def test_a_hospital_without_scans_of_a_task_takes_part_with_weight_zero(tmp_path):
    config = tiny(tmp_path, stream_task_count=2)
    hospitals = local_hospitals(config)

    class NoScansOfTheFirstTask:
        def __init__(self, source):
            self.source, self.hospital = source, source.hospital

        def scans(self, registry, task, split):
            if (task, split) == (0, "train"):
                return Scans.none(28)
            return self.source.scans(registry, task, split)

        def unknown(self, dataset):
            return self.source.unknown(dataset)

    object.__setattr__(hospitals[1], "source", NoScansOfTheFirstTask(hospitals[1].source))
    Coordinator(config, local_exchange(hospitals)).run()
    assert [e.task for e in hospitals[0].vault.manifest().entries] == [0, 1]
    assert [e.task for e in hospitals[1].vault.manifest().entries] == [1]
    examples = {(s.task, s.phase): s.examples for s in RunStore(tmp_path).steps("tiny")}
    assert examples[0, "sleep"] == 5 * 12 // 2
    assert examples[1, "sleep"] == 5 * 12 // 2 + 4 * 12


@pytest.mark.parametrize("asked_for", [False, True])
def test_missing_unknown_scans_matter_only_when_they_were_asked_for(tmp_path, asked_for):
    config = tiny(tmp_path, stream_task_count=1, **({"stream_unknown": "phantom-fundus"} if asked_for else {}))
    hospital = local_hospitals(config)[0]

    class NoUnknown:
        def __init__(self, source):
            self.scans = source.scans

        def unknown(self, dataset):
            raise MissingScansError(f"no file of {dataset}")

    object.__setattr__(hospital, "source", NoUnknown(hospital.source))
    weights = Cortex(9, config.cortex).weights()
    report = hospital.answer(order(config, "evaluate", weights=weights))
    if asked_for:
        assert report.failure == "no file of phantom-fundus"
    else:
        assert report.examples > 0
        assert set(report.figures["scores"]["energy"]) == {"known-correct", "known-wrong"}


def test_familiarity_is_measured_from_the_vault_and_not_from_raw_scans(tmp_path):
    config = tiny(tmp_path, stream_unknown="phantom-fundus")
    hospital = local_hospitals(config)[0]
    assert not hospital.answer(order(config, "encode")).failure
    read = []

    class Watched(ScanSource):
        def scans(self, registry, task, split):
            read.append(split)
            return super().scans(registry, task, split)

    scores = evaluated(replace(hospital, source=Watched(**vars(hospital.source))), config)
    assert set(read) == {"test", "val"}
    assert scores["familiarity"].keys() == scores["energy"].keys() > {"unknown-near", "unknown-far"}
    for group, counts in scores["energy"].items():
        assert sum(scores["familiarity"][group]) == sum(counts), group


@pytest.mark.parametrize(("method", "familiar"), [("braincl", False), ("finetune", False), ("joint", True)])
def test_without_samples_of_all_classes_there_is_no_familiarity(tmp_path, method, familiar):
    config = tiny(tmp_path, method=method)  # BrainCL has not encoded anything yet
    assert ("familiarity" in evaluated(local_hospitals(config)[0], config)) == familiar


def evaluated(hospital, config):
    weights = Cortex(3, config.cortex).weights()
    return hospital.answer(order(config, "evaluate", weights=weights)).figures["scores"]


@pytest.mark.parametrize(
    "change",
    [
        {"task": 10**9},
        {"round": 10**9},
        {"phase": "p" * 1000},
        {"experiment": "e" * 1000},
        {"more": 1},
        {"task": True},
    ],
)
def test_an_order_beyond_its_limits_is_refused(change, tmp_path):
    said = json.loads(order(tiny(tmp_path), "encode").text())
    with pytest.raises(FederationError, match="the order cannot be read"):
        Order.parse(json.dumps({**said, **change}), {})
    with pytest.raises(FederationError, match="characters, at most"):
        Order.parse(" " * LONGEST_TEXT + json.dumps(said), {})


@pytest.mark.parametrize("text", ["x", "{}"])
def test_messages_survive_the_round_trip_and_nothing_else_does(text, tmp_path):
    sent = order(tiny(tmp_path), "encode")
    assert Order.parse(sent.text(), {}) == sent
    report = Report("site-0", 3, 0.5, {"a": [1]})
    assert Report.parse(report.text(), {}) == report
    with pytest.raises(FederationError):
        Order.parse(text, {})
