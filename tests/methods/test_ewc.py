import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from braincl_med.cortex.cortex import Cortex
from braincl_med.federation.local import run_locally
from braincl_med.methods.ewc import curvature_of, elastic, fisher, joined, penalty
from braincl_med.phases.sleep import cross_entropy, sleep
from braincl_med.records.store import RunStore
from braincl_med.settings.config import SleepConfig
from braincl_med.streams.tasks import Scans
from tests.federation.experiments import tiny
from tests.methods.one_hospital import hospital_with, noise, order_for
from tests.methods.small_network import SmallNetwork


def test_the_fisher_information_of_a_logistic_regression_is_the_closed_form():
    torch.manual_seed(0)
    network, scans = nn.Linear(4, 3), torch.randn(20, 4)
    found = fisher(network, scans.repeat(200, 1), torch.Generator().manual_seed(1))
    with torch.no_grad():
        p = network(scans).softmax(1)
    # Under labels drawn from the model, E[(1_k - p_k)²] = p_k (1 - p_k).
    wanted = (p * (1 - p)).T @ scans.square() / len(scans)
    torch.testing.assert_close(found["weight"], wanted, rtol=0.15, atol=0.01)
    torch.testing.assert_close(found["bias"], (p * (1 - p)).mean(0), rtol=0.1, atol=0)


def test_the_fisher_information_is_the_mean_of_each_scans_squared_gradients():
    torch.manual_seed(0)
    network, scans = SmallNetwork(3, width=4), torch.rand(6, 3, 8, 8)
    with torch.no_grad():
        network.classifier.weight.mul_(5)
        network.train()(scans)
    found = fisher(network, scans, torch.Generator().manual_seed(7))
    draws = torch.Generator().manual_seed(7)
    with torch.no_grad():
        labels = torch.cat([torch.multinomial(p, 1, generator=draws) for p in network(scans).softmax(1)])
    state = {n: b for n, b in network.named_buffers()}

    def loss(parameters, scan, label):
        return nn.functional.cross_entropy(functional_call(network, (parameters, state), (scan[None],)), label[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(dict(network.named_parameters()), scans, labels)
    assert len(set(labels.tolist())) > 1
    assert not network.training
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient.detach().square().mean(0), rtol=1e-3, atol=1e-9)


def some_pair(network, seed):
    draw = torch.Generator().manual_seed(seed)
    importance = {n: torch.rand(p.shape, generator=draw) for n, p in network.named_parameters()}
    return importance, {n: torch.randn(p.shape, generator=draw) for n, p in network.named_parameters()}


def test_the_penalty_is_a_parabola_around_the_anchor_and_leaves_new_rows_free():
    network = nn.Linear(4, 3)
    curvature, anchor = some_pair(network, 0)
    grown = nn.Linear(4, 5)
    with torch.no_grad():
        grown.weight[:3], grown.bias[:3] = anchor["weight"], anchor["bias"]
    assert penalty(grown, curvature, anchor).item() == 0
    with torch.no_grad():
        grown.weight += 0.5
    value = penalty(grown, curvature, anchor)
    assert value.item() == pytest.approx(curvature["weight"].sum().item() * 0.25 / 2, rel=1e-5)
    (gradient,) = torch.autograd.grad(value, grown.weight)
    torch.testing.assert_close(gradient[:3], curvature["weight"] * 0.5)
    assert not gradient[3:].any()


def test_the_joined_penalty_pulls_like_the_penalties_of_all_tasks_together():
    pairs = [some_pair(nn.Linear(4, rows), rows) for rows in (2, 3, 5)]
    pairs[0][0]["weight"][0] = 0
    network = nn.Linear(4, 6)
    apart = sum(penalty(network, *pair) for pair in pairs)
    together = penalty(network, *joined(pairs))
    for one, other in zip(
        torch.autograd.grad(apart, network.parameters()),
        torch.autograd.grad(together, network.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    # What no task needs is anchored, with no force, where the last task left it.
    nobody = {name: torch.zeros_like(f) for name, f in pairs[2][0].items()}
    assert torch.equal(joined([(nobody, pairs[2][1])])[1]["weight"], pairs[2][1]["weight"])


def test_a_huge_strength_holds_important_weights_and_no_others():
    torch.manual_seed(0)
    start = SmallNetwork(2, width=4)
    scans = Scans(np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3)).astype(np.uint8), np.arange(32) % 2)
    settings = SleepConfig(rounds=1, epochs=10, batch_size=8, learning_rate=0.05, crop_padding=0)
    anchor = {name: p.detach().clone() for name, p in start.named_parameters()}
    held = "body.3.weight"
    importance = {name: torch.full_like(p, float(name == held)) for name, p in anchor.items()}
    free, bound = copy.deepcopy(start), copy.deepcopy(start)
    sleep(free, scans, settings, 0, 1, 0.0)
    curvature = curvature_of(importance, 1e12, settings.learning_rate)
    loss = sleep(bound, scans, settings, 0, 1, 0.0, elastic(cross_entropy, curvature, anchor))

    def moved(network, name):
        return (network.get_parameter(name) - anchor[name]).norm().item()

    assert np.isfinite(loss)
    assert moved(bound, held) < 0.1 * moved(free, held)
    assert moved(bound, "body.0.weight") > 0.3 * moved(free, "body.0.weight")


@pytest.fixture(autouse=True)
def _few_samples(monkeypatch):
    monkeypatch.setattr("braincl_med.methods.ewc.FISHER_SAMPLES", 3)


def remembering(folder, tasks, weights, **overrides):
    hospital = hospital_with(folder, tasks, method="ewc", **overrides)
    for task in tasks:
        report = hospital.answer(order_for("remember", task, weights[task]))
        assert not report.failure
        assert not report.weights
    return hospital


def networks():
    torch.manual_seed(0)
    first = Cortex(3, tiny("x").cortex)
    second = copy.deepcopy(first)
    second.widen(5)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(0.01)
    return first.weights(), second.weights()


def test_plain_keeps_a_pair_of_every_task_and_online_the_sum_and_the_latest_weights(tmp_path):
    weights, tasks = networks(), {0: noise([0, 1, 2, 0]), 1: noise([3, 4, 3], seed=1)}
    plain = remembering(tmp_path / "plain", tasks, weights)
    online = remembering(tmp_path / "online", tasks, weights, ewc_variant="online")
    pairs, total = [plain.kept.load("fisher", task) for task in (0, 1)], online.kept.load("fisher", 1)
    row = "fisher.classifier.weight"
    assert [pair[row].shape for pair in pairs] == [(3, 64), (5, 64)]
    assert not np.array_equal(pairs[0][row], pairs[1][row][:3])
    np.testing.assert_allclose(total[row][:3], pairs[0][row] + pairs[1][row][:3], rtol=1e-5)
    np.testing.assert_array_equal(total[row][3:], pairs[1][row][3:])
    np.testing.assert_array_equal(total["anchor.classifier.weight"], weights[1]["classifier.weight"])
    pair = 2 * 4 * sum(p.numel() for p in Cortex(5, tiny("x").cortex).parameters())
    assert plain.kept.sizes()["fisher"] > 1.9 * pair
    # Repeated, the first round has what it needs; the second leaves one pair.
    online.answer(order_for("remember", 1, weights[1]))
    np.testing.assert_array_equal(online.kept.load("fisher", 1)[row], total[row])
    online.answer(order_for("remember", 1, weights[1], number=1))
    assert online.kept.load("fisher", 0) is None
    # A hospital that missed the first round of the second task keeps what it had.
    late = remembering(tmp_path / "late", {0: tasks[0]}, weights, ewc_variant="online")
    late = hospital_with(tmp_path / "late", tasks, method="ewc", ewc_variant="online")
    late.answer(order_for("remember", 1, weights[1], number=1))
    assert late.kept.load("fisher", 0) is not None
    assert online.kept.sizes()["fisher"] < 1.1 * pair


def test_a_hospital_without_scans_keeps_nothing_and_trains_without_a_penalty(tmp_path):
    weights, tasks = networks(), {0: Scans.none(28), 1: noise([3, 4, 3, 4])}
    hospital = remembering(tmp_path, {0: tasks[0]}, weights)
    assert hospital.kept.sizes() == {}
    plain = hospital_with(tmp_path / "plain", tasks, method="finetune")
    losses = [
        each.answer(order_for("train", 1, weights[1])).loss
        for each in (plain, hospital_with(tmp_path, tasks, method="ewc"))
    ]
    assert losses[0] == losses[1] is not None


def test_a_whole_experiment_keeps_importances_and_sends_none(tmp_path, monkeypatch):
    monkeypatch.setattr("braincl_med.methods.ewc.FISHER_SAMPLES", 2)
    run_locally(tiny(tmp_path, method="ewc", stream_train_per_class=4, sleep_epochs=1, sleep_rounds=1))
    store = RunStore(tmp_path)
    assert store.experiment("tiny").status == "finished"
    steps = {(s.task, s.phase): s for s in store.steps("tiny")}
    assert [steps[t, "remember"].examples for t in range(3)] == [4, 4, 4]
    assert steps[2, "remember"].bytes_up < 1000
    kept = {(after, hospital): n for after, hospital, item, n in store.storage("tiny") if item == "fisher"}
    assert kept[2, "site-0"] > 2.9 * kept[0, "site-0"]
