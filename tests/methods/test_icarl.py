import dataclasses
import shutil

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize

from braincl_med.cortex.cortex import extract_features, scans_to_tensor
from braincl_med.federation.aggregate import average
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.methods.exemplars import exemplars
from braincl_med.methods.icarl import ICARL, SIMILARITY_SCALE, PrototypeCortex, sigmoid_distillation
from braincl_med.records.store import RunStore
from braincl_med.settings.config import CortexConfig
from braincl_med.streams.tasks import Scans
from tests.federation.experiments import tiny
from tests.methods.one_hospital import hospital_with, noise, order_for, smooth

SMALL = CortexConfig(network="small")


def network(seed=0, classes=5):
    torch.manual_seed(seed)
    return PrototypeCortex(classes, SMALL)


def remembering(folder, tasks, weights, **overrides):
    """A hospital that has remembered these tasks, and the exemplars it keeps."""
    hospital = hospital_with(folder, tasks, method="icarl", **overrides)
    for task in tasks:
        assert not hospital.answer(order_for("remember", task, weights)).failure
    return hospital, Scans.join(exemplars(hospital, task) for task in tasks)


def with_prototypes(weights, *reports):
    return PrototypeCortex.of(average(reports, weights), SMALL)


def test_the_loss_is_cross_entropy_of_yes_and_no_with_the_teachers_answers_for_old_classes():
    random = np.random.default_rng(0)
    logits, taught = random.normal(size=(6, 5)) * 2, random.normal(size=(6, 3)) * 2
    labels = np.array([0, 2, 3, 4, 4, 1])
    total = 0.0
    for scan in range(6):
        for number in range(5):
            yes = 1 / (1 + np.exp(-logits[scan, number]))
            target = 1 / (1 + np.exp(-taught[scan, number])) if number < 3 else float(labels[scan] == number)
            total -= target * np.log(yes) + (1 - target) * np.log(1 - yes)
    loss = sigmoid_distillation(torch.tensor(logits), torch.tensor(labels), torch.tensor(taught))
    assert loss.item() == pytest.approx(total / 6)
    # Without old classes the targets are one-hot.
    plain = sigmoid_distillation(torch.tensor(logits), torch.tensor(labels), torch.zeros(6, 0))
    chances = 1 / (1 + np.exp(-logits))
    wanted = np.eye(5)[labels]
    assert plain.item() == pytest.approx(-np.log(np.where(wanted == 1, chances, 1 - chances)).sum() / 6)


def test_the_teacher_is_the_network_before_the_tasks_first_round_and_is_gone_once_the_task_is_remembered(tmp_path):
    before, later = network(1), network(2)
    student, scans = network(3).eval(), noise([3, 4, 0])
    hospital = hospital_with(tmp_path, {1: noise([3, 4] * 3)}, method="icarl")
    batch, labels = scans_to_tensor(scans.images), torch.from_numpy(scans.labels)

    def loss(number, weights):
        order = order_for("train", 1, weights, number=number)
        return ICARL.objective(hospital, order, student)(student, batch, labels).item()

    with torch.no_grad():
        expected = sigmoid_distillation(student(batch), labels, before.eval()(batch)[:, :3]).item()
    first = loss(0, before.weights())
    assert first == pytest.approx(expected)
    assert loss(1, later.weights()) == first
    assert "teacher" in hospital.kept.sizes()
    # A repeated first round begins anew, and another teacher does make a difference.
    assert loss(0, later.weights()) != pytest.approx(first)
    hospital.answer(order_for("remember", 1, later.weights()))
    assert set(hospital.kept.sizes()) == {"exemplars"}


def test_predictions_are_those_of_the_nearest_centroid_of_unit_features(tmp_path):
    cortex = network()
    tasks = {0: smooth([0, 1, 2] * 6), 1: smooth([3, 4] * 6, seed=1)}
    hospital, exemplars = remembering(tmp_path, tasks, cortex.weights(), exemplars_per_class=4)
    assert np.bincount(exemplars.labels).tolist() == [4] * 5
    report = hospital.answer(order_for("prototypes", 1, cortex.weights()))
    classifier = with_prototypes(cortex.weights(), report)
    unknown = smooth([0, 1, 2, 3, 4] * 8, seed=2)
    answers = ICARL.answer(classifier, unknown.images, hospital.config)

    oracle = NearestCentroid().fit(normalize(extract_features(cortex, exemplars.images)), exemplars.labels)
    oracle.centroids_ = normalize(oracle.centroids_)
    expected = oracle.predict(normalize(extract_features(cortex, unknown.images)))
    assert len(set(expected.tolist())) > 2
    assert answers.logits.argmax(1).tolist() == expected.tolist()
    # The logits are cosines times the scale: squared distances between unit vectors are 2 − 2 cos.
    distances = ((normalize(extract_features(cortex, unknown.images))[:, None] - oracle.centroids_[None]) ** 2).sum(2)
    assert np.allclose(answers.logits / SIMILARITY_SCALE, 1 - distances / 2, atol=1e-4)


def test_two_hospitals_together_have_the_prototypes_of_one_that_holds_the_exemplars_of_both(tmp_path):
    weights = network().weights()
    here, there = noise([0, 0, 0, 1, 2]), noise([0, 1, 1, 1, 1, 1, 1, 1], seed=1)
    reports = []
    for name, scans in (("site-0", here), ("site-1", there), ("both", Scans.join([here, there]))):
        hospital, exemplars = remembering(tmp_path / name, {0: scans}, weights, name=name)
        assert len(exemplars) == len(scans)
        reports.append(hospital.answer(order_for("prototypes", 0, weights)))
    pooled, whole = with_prototypes(weights, *reports[:2]), with_prototypes(weights, reports[2])
    assert torch.allclose(pooled.prototypes, whole.prototypes, atol=1e-6)
    assert whole.prototypes[:3].norm(dim=1).min() > 0
    # The mean of the hospitals' means would be another one.
    apart = [with_prototypes(weights, report).prototypes[0] for report in reports[:2]]
    means = torch.nn.functional.normalize(torch.stack(apart), dim=1).mean(0)
    gap = torch.nn.functional.normalize(means, dim=0) - torch.nn.functional.normalize(whole.prototypes[0], dim=0)
    assert gap.norm() > 1e-3


def test_prototypes_of_all_tasks_are_taken_anew_under_the_current_network(tmp_path):
    old, new = network(1).weights(), network(2).weights()
    hospital, _ = remembering(tmp_path, {0: noise([0, 1, 2]), 1: noise([3, 4], seed=1)}, old, exemplars_per_class=1)
    first = hospital.answer(order_for("prototypes", 1, old)).weights["prototypes"]
    again = hospital.answer(order_for("prototypes", 1, new)).weights["prototypes"]
    assert (first - again).norm(dim=1).min() > 1e-3
    assert hospital.answer(order_for("prototypes", 0, old)).weights["prototypes"][3:].abs().max() == 0


def test_widening_keeps_prototypes_and_the_weights_rebuild_the_network():
    cortex = network(classes=3)
    cortex.prototypes += torch.rand(3, 64)
    grown = PrototypeCortex.of(ICARL.grow(cortex.weights(), SMALL, 5), SMALL)
    assert torch.equal(grown.prototypes[:3], cortex.prototypes)
    assert grown.prototypes.shape == (5, 64)
    assert grown.prototypes[3:].abs().max() == 0
    assert torch.equal(grown.classifier.weight[:3], cortex.classifier.weight)


def figures(state):
    store = RunStore(state)
    steps = [dataclasses.replace(step, seconds=0) for step in store.steps("tiny")]
    kept = {(path.parts[-4], path.name): path.read_bytes() for path in state.glob("site-*/tiny/kept/*")}
    return store.tally("tiny").correct.tolist(), store.storage("tiny"), steps, kept


def test_a_run_over_three_tasks_that_is_stopped_between_rounds_resumes_to_the_same_results(tmp_path):
    small = {
        "method": "icarl",
        "exemplars_per_class": 2,
        "sleep_rounds": 2,
        "stream_train_per_class": 6,
        "stream_test_per_class": 2,
    }
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    config = tiny(whole, **small)
    exchange = local_exchange(local_hospitals(config))

    def copying(order):
        # What a kill would leave once the first round has left its teacher at the hospitals.
        if (order.task, order.phase, order.round) == (2, "train", 1):
            shutil.copytree(whole, stopped)
        return exchange(order)

    Coordinator(config, copying).run()
    confusions, storage, steps, kept = figures(whole)
    once = [("train", 0), ("train", 1), ("calibrate", 0), ("remember", 0), ("prototypes", 0), ("evaluate", 0)]
    assert [(s.phase, s.round) for s in steps] == once * 3
    assert [s.examples for s in steps if s.phase == "prototypes"] == [12, 24, 36]
    assert {item for _, _, item, size in storage if size} == {"exemplars", "records"}
    assert sorted(name for _, name in kept) == [f"exemplars-{t}.kept" for t in (0, 0, 1, 1, 2, 2)]

    assert len(list(stopped.glob("site-*/tiny/kept/teacher-2.*"))) == 2
    assert len(RunStore(stopped).steps("tiny")) == 13
    run_locally(tiny(stopped, resume=True, **small))
    assert figures(stopped) == (confusions, storage, steps, kept)
