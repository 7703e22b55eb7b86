from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from braincl_med.cortex.cortex import Cortex, Weights, extract_features
from braincl_med.cortex.familiarity import Familiarity
from braincl_med.cortex.gaussians import MOMENTS, moments, no_moments
from braincl_med.evaluation.rejection import histogram
from braincl_med.federation.aggregate import average
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, load_weights
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.messages.update import objection
from braincl_med.methods import METHODS
from braincl_med.phases.discriminant import discriminant
from braincl_med.records.store import RunStore
from braincl_med.streams.tasks import Scans
from tests.federation.experiments import tiny

CLASSES, FEATURES = 4, 6


def samples(seed: int, each: int = 50) -> tuple[Tensor, Tensor]:
    """Features of four overlapping classes whose spread is not round."""
    random = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(CLASSES, FEATURES, generator=fixed)
    shape = torch.randn(FEATURES, FEATURES, generator=fixed)
    labels = torch.arange(CLASSES).repeat_interleave(each)
    noise = torch.randn(len(labels), FEATURES, generator=random) @ shape
    return centres[labels] + noise, labels


def classifier(rows: int = CLASSES) -> Weights:
    random = torch.Generator().manual_seed(9)
    return {
        "classifier.weight": torch.randn(rows, FEATURES, generator=random),
        "classifier.bias": torch.randn(rows, generator=random),
    }


def logits(weights: Weights, features: Tensor) -> Tensor:
    return features @ weights["classifier.weight"].T + weights["classifier.bias"]


def test_with_nothing_to_tell_apart_all_rows_stay_as_they_are():
    rows = classifier()
    features = torch.randn(6, FEATURES)
    for labels, values in (
        ([1] * 6, features),
        ([1], features[:1]),
        ([0, 0, 1, 1, 3, 3], features[:1].expand(6, -1)),
        ([0, 0, 0, 1, 1, 1], features[[0, 1, 2, 0, 1, 2]]),
    ):
        solved = discriminant(moments(values, torch.tensor(labels), CLASSES), rows)
        assert all(torch.equal(solved[name], rows[name]) for name in solved), labels


@pytest.mark.parametrize("shrinkage", [0.0, 0.1, 2.0])
def test_it_is_scikit_learns_discriminant_up_to_its_scale(shrinkage: float) -> None:
    features, labels = samples(1)
    solved = discriminant(moments(features, labels, CLASSES), classifier(), shrinkage)
    # Theirs shrinks the covariance by as much as it adds of the mean variance.
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage / (1 + shrinkage))
    oracle.fit(features.numpy(), labels.numpy())
    unseen = samples(2)[0]
    theirs = oracle.decision_function(unseen.numpy())
    mine = logits(solved, unseen).double().numpy()
    theirs, mine = theirs - theirs.mean(1, keepdims=True), mine - mine.mean(1, keepdims=True)
    np.testing.assert_allclose(mine / np.linalg.norm(mine), theirs / np.linalg.norm(theirs), atol=1e-5)
    assert solved["classifier.weight"].norm() == pytest.approx(
        float(classifier()["classifier.weight"].norm()), rel=1e-5
    )


def test_hospitals_of_one_class_each_give_the_classifier_of_one_that_holds_all() -> None:
    features, labels = samples(1)
    # Ten samples of the last class only: neither hospitals nor classes are of one size.
    features, labels = features[:160], labels[:160]
    reports = [
        Report(
            f"site-{c}",
            int((labels == c).sum()),
            weights=moments(features[labels == c], labels[labels == c], CLASSES),
        )
        for c in range(CLASSES)
    ]
    assert [objection(report.weights, no_moments(classifier())) for report in reports] == [None] * CLASSES
    together = discriminant(average(reports, {}), classifier())
    alone = discriminant(moments(features, labels, CLASSES), classifier())
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor)
    unseen, truth = samples(2)
    assert (logits(together, unseen).argmax(1) == truth).float().mean() > 0.8


def test_classes_without_a_sample_keep_their_rows() -> None:
    features, labels = samples(1)
    before = classifier(CLASSES + 1)
    solved = discriminant(moments(features, labels, CLASSES + 1), before)
    for name, tensor in before.items():
        assert torch.equal(solved[name][CLASSES], tensor[CLASSES])
        assert not torch.equal(solved[name][0], tensor[0])


def test_features_without_any_spread_are_no_error() -> None:
    solved = discriminant(moments(torch.ones(3, FEATURES), torch.tensor([0, 0, 1]), CLASSES), classifier())
    assert all(bool(torch.isfinite(tensor).all()) for tensor in solved.values())


@pytest.mark.parametrize("method", ["braincl", "joint"])
def test_an_experiment_solves_its_classifier_after_every_task(tmp_path: Path, method: str) -> None:
    config = tiny(tmp_path, method=method, sleep_classifier="discriminant", stream_share="by-class")
    run_locally(config)
    steps = RunStore(tmp_path).steps("tiny")
    assert [step.phase for step in steps if step.task == 1][-3:] == ["calibrate", "discriminate", "evaluate"]
    assert [len(step.hospitals) for step in steps if step.phase == "discriminate"] == [2, 2, 2]

    folder = folder_of(tmp_path, "tiny")
    checkpoint = load_checkpoint(folder)
    weights = load_weights(folder, checkpoint)
    held = [METHODS[method].samples(hospital, checkpoint.registry, 2) for hospital in local_hospitals(config)]
    assert not set(held[0].labels.tolist()) & set(held[1].labels.tolist())
    together = Scans.join(held)
    features = extract_features(Cortex.of(weights, config.cortex), together.images)
    solved = discriminant(moments(features, torch.from_numpy(together.labels), 9), weights)
    for name, tensor in solved.items():
        torch.testing.assert_close(tensor, weights[name], atol=1e-4, rtol=1e-3)


def test_a_hospital_is_familiar_with_classes_that_only_others_hold(tmp_path: Path) -> None:
    config = tiny(tmp_path, sleep_classifier="discriminant", stream_share="by-class", stream_task_count=2)
    hospitals = local_hospitals(config)
    asked: list[Order] = []
    exchange = local_exchange(hospitals)

    def watching(order: Order) -> list[Report]:
        asked.append(order)
        return list(exchange(order))

    Coordinator(config, watching).run()
    told = [order.phase for order in asked if any(name.startswith(MOMENTS) for name in order.weights)]
    assert told == ["evaluate", "evaluate"]

    last = asked[-1]
    network = Cortex.of({n: t for n, t in last.weights.items() if not n.startswith(MOMENTS)}, config.cortex)
    held = Scans.join([METHODS["braincl"].samples(hospital, last.registry, 1) for hospital in hospitals])
    features = extract_features(network, held.images)
    pooled = Familiarity.of(moments(features, torch.from_numpy(held.labels), last.registry.seen(1)))
    for hospital in hospitals:
        tested = [hospital.source.scans(last.registry, task, "test").images for task in range(2)]
        expected = histogram("familiarity", pooled.scores(extract_features(network, np.concatenate(tested)).numpy()))
        found = hospital.answer(last).figures["scores"]["familiarity"]
        counted = np.sum([found["known-correct"], found["known-wrong"]], 0)
        # A distance at the edge of a bin may fall on its other side: the moments were averaged in another order.
        assert np.abs(np.cumsum(counted - expected)).max() <= 1
