import numpy as np
import pytest
import torch

from braincl_med.cortex.cortex import extract_features, predict, scans_to_tensor
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals
from braincl_med.methods.der import DER, balanced
from braincl_med.methods.expanded import ExpandedCortex, trainable
from braincl_med.phases.sleep import calibrate, sleep
from braincl_med.records.store import RunStore
from braincl_med.settings.config import CortexConfig, SleepConfig
from tests.federation.experiments import tiny
from tests.methods.one_hospital import hospital_with, noise, order_for
from tests.small_backbone import SmallBackbone

SMALL = CortexConfig(network="small")
WIDTH = 64
ONE_BACKBONE = sum(t.numel() * t.element_size() for t in SmallBackbone(WIDTH).state_dict().values())


def network(*classes, seed=0):
    """A network that has learned tasks up to these numbers of classes, with statistics unlike those of a new one."""
    torch.manual_seed(seed)
    weights = {}
    for known in classes:
        weights = DER.grow(weights, SMALL, known)
        cortex = ExpandedCortex.of(weights, SMALL)
        calibrate(cortex, noise([0] * 12, seed=known), 6)
        weights = cortex.weights()
    return cortex


def of_backbone(weights, number):
    prefix = "backbone." if number == 0 else f"added.{number - 1}."
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def same(first, second):
    assert first, "of no tensors every two are the same"
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_each_task_adds_a_backbones_features_and_leaves_the_former_ones_and_the_old_rows_as_they_were():
    scans = noise([0] * 4, seed=9)
    before = network(3)
    after = ExpandedCortex.of(DER.grow(before.weights(), SMALL, 5), SMALL)
    former, features = extract_features(before, scans.images), extract_features(after, scans.images)
    assert former.shape == (4, WIDTH)
    assert features.shape == (4, 2 * WIDTH)
    assert torch.equal(features[:, :WIDTH], former)
    # The new backbone starts from the weights of the one before it.
    assert torch.equal(features[:, WIDTH:], former)
    assert torch.equal(after.classifier.weight[:3, :WIDTH], before.classifier.weight)
    assert torch.equal(after.classifier.bias[:3], before.classifier.bias)
    assert after.classifier.weight[:3, WIDTH:].std() > 0
    assert after.auxiliary.out_features == 1 + 2
    assert extract_features(network(2, 4, 5), scans.images).shape == (4, 3 * WIDTH)
    with pytest.raises(ValueError, match="cannot shrink"):
        after.widen(4)


def test_training_and_calibration_change_the_newest_backbone_only():
    cortex = network(2, 4)
    before = cortex.weights()
    settings = SleepConfig(rounds=1, epochs=1, batch_size=4, learning_rate=0.01, weight_decay=0.1)
    sleep(cortex, noise([0, 1, 2, 3] * 3), settings, 0, seed=1, dithering=0)
    calibrate(cortex, noise([0, 1, 2, 3] * 3, seed=5), 4)
    after = cortex.weights()
    assert same(of_backbone(before, 0), of_backbone(after, 0))
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    newest = {name for name in after if name.startswith("added.0.")}
    assert changed == newest | {"classifier.weight", "classifier.bias"}
    assert set(trainable(cortex.weights())) == changed | {"auxiliary.weight", "auxiliary.bias"}
    assert set(trainable(network(2).weights())) == set(network(2).weights())


def test_weights_rebuild_the_network_and_what_is_frozen_in_it():
    cortex, scans = network(2, 3, 5), noise([0] * 5)
    again = ExpandedCortex.of(cortex.weights(), SMALL)
    assert np.array_equal(predict(cortex, scans.images), predict(again, scans.images))
    assert predict(again, scans.images[:0]).shape == (0, 5)
    assert {n.split(".")[0] for n, p in again.named_parameters() if not p.requires_grad} == {"backbone", "added"}
    assert all(p.requires_grad for n, p in again.named_parameters() if n.startswith(("added.1.", "classifier.")))
    again.train()
    assert [backbone.training for backbone in again.backbones] == [False, False, True]


def test_the_loss_adds_that_of_telling_new_classes_from_old_by_the_newest_features(tmp_path, monkeypatch):
    monkeypatch.setattr("braincl_med.methods.der.AUXILIARY_WEIGHT", 0.3)
    cortex = network(3, 5).eval()
    hospital = hospital_with(tmp_path, {}, method="der")
    scans = noise([0, 2, 3, 4, 4])
    batch, labels = scans_to_tensor(scans.images), torch.from_numpy(scans.labels)
    loss = DER.objective(hospital, order_for("train", 1, {}), cortex)(cortex, batch, labels).item()

    def entropy(logits, truth):
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return -np.log(chances[np.arange(len(truth)), truth]).mean()

    features = extract_features(cortex, scans.images).double().numpy()
    rows = {name: tensor.double().numpy() for name, tensor in cortex.weights().items()}
    main = entropy(features @ rows["classifier.weight"].T + rows["classifier.bias"], scans.labels)
    told = entropy(features[:, WIDTH:] @ rows["auxiliary.weight"].T + rows["auxiliary.bias"], [0, 0, 1, 2, 2])
    assert loss == pytest.approx(main + 0.3 * told, rel=1e-4)
    assert DER.objective(hospital, order_for("train", 0, {}), cortex) is None


def test_a_balanced_set_has_as_many_of_each_class_as_there_are_exemplars_of_the_commonest_old_one():
    labels = np.array([0] * 5 + [1] * 3 + [2] * 40 + [3] * 2)
    chosen = balanced(labels, 2, least=1, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [5, 5, 5, 5]
    assert set(chosen[labels[chosen] == 0]) == set(range(5)), "none is taken twice where there are enough"
    assert set(chosen[labels[chosen] == 1]) == {5, 6, 7}
    assert len(set(chosen[labels[chosen] == 2])) == 5
    assert np.array_equal(chosen, balanced(labels, 2, least=4, seed=1))
    assert not np.array_equal(chosen, balanced(labels, 2, least=1, seed=2))


def test_a_balanced_set_does_not_throw_new_scans_away_because_there_are_few_exemplars():
    labels = np.array([0] * 2 + [1] * 3 + [2] * 40 + [3] * 15)
    chosen = balanced(labels, 2, least=20, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [20, 20, 20, 20]
    assert [len(set(chosen[labels[chosen] == c])) for c in range(4)] == [2, 3, 20, 15]
    assert np.bincount(labels[balanced(labels, 2, least=50, seed=1)]).tolist() == [40, 40, 40, 40]


def test_rebalancing_begins_the_classifier_anew_alike_at_all_hospitals_and_nothing_else(tmp_path, monkeypatch):
    weights = network(3, 5).weights()
    tasks = {0: noise([0, 1, 2] * 4), 1: noise([3] * 12 + [4] * 4, seed=1)}

    def rebalanced(name, sent, task=1, epochs=1, rate=0.004, **overrides):
        monkeypatch.setattr("braincl_med.methods.der.REBALANCE_EPOCHS", epochs)
        monkeypatch.setattr("braincl_med.methods.der.REBALANCE_LEARNING_RATE", rate)
        hospital = hospital_with(tmp_path, tasks, name=name, method="der", exemplars_per_class=2, **overrides)
        hospital.answer(order_for("remember", 0, weights))
        return hospital.answer(order_for("rebalance", task, sent))

    almost_still = {"rate": 1e-9}
    first, second = (rebalanced(name, weights, **almost_still) for name in ("site-0", "site-1"))
    assert first.examples == 5 * 12
    assert set(first.weights) == {"classifier.weight", "classifier.bias"}
    assert torch.allclose(first.weights["classifier.weight"], second.weights["classifier.weight"], atol=1e-6)
    assert not torch.allclose(first.weights["classifier.weight"], weights["classifier.weight"], atol=1e-2)
    learned = rebalanced("site-0", weights, epochs=20)
    assert learned.loss < rebalanced("site-0", weights).loss
    counted = rebalanced("site-0", weights, federation_classifier_rows="by-class", **almost_still)
    assert counted.figures["classes"] == [12] * 5
    assert "classes" not in first.figures
    # After the first task there is nothing to balance.
    alone = network(3).weights()
    kept = rebalanced("site-0", alone, task=0)
    assert kept.examples == 12
    assert torch.equal(kept.weights["classifier.weight"], alone["classifier.weight"])


def test_over_three_tasks_at_two_hospitals_old_backbones_stay_bit_by_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("braincl_med.methods.der.REBALANCE_EPOCHS", 2)
    config = tiny(
        tmp_path,
        method="der",
        exemplars_per_class=2,
        sleep_rounds=1,
        sleep_epochs=1,
        stream_train_per_class=6,
        stream_test_per_class=2,
    )
    exchange, evaluated = local_exchange(local_hospitals(config)), []

    def watching(order):
        if order.phase == "evaluate":
            evaluated.append(order.weights)
        return exchange(order)

    Coordinator(config, watching).run()
    first, second, third = evaluated
    assert same(of_backbone(first, 0), of_backbone(third, 0))
    assert same(of_backbone(second, 1), of_backbone(third, 1))
    for newer, older in (
        (of_backbone(third, 1), of_backbone(third, 0)),
        (of_backbone(third, 2), of_backbone(third, 1)),
    ):
        assert not any(torch.equal(newer[name], older[name]) for name in newer if "tracked" not in name)
    assert [weights["classifier.weight"].shape[1] for weights in evaluated] == [WIDTH, 2 * WIDTH, 3 * WIDTH]

    store = RunStore(tmp_path)
    sizes = {(after, item): n for after, hospital, item, n in store.storage("tiny") if hospital == "site-0"}
    assert [sizes[after, "backbones"] for after in range(3)] == [0, ONE_BACKBONE, 2 * ONE_BACKBONE]
    steps = {(s.task, s.phase): s for s in store.steps("tiny")}
    assert [s.phase for s in store.steps("tiny")] == [
        "train", "calibrate", "rebalance", "remember", "evaluate"
    ] * 3  # fmt: skip
    # What training sends back does not grow with the frozen backbones, but for the classifier's columns.
    assert steps[2, "train"].bytes_up - steps[0, "train"].bytes_up < 2 * 4 * 9 * 3 * WIDTH + 1000
    assert [steps[task, "rebalance"].examples for task in range(3)] == [18, 48, 72]
