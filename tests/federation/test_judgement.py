"""Updates that are well-formed and not plausible are left out, and the others go on."""

import dataclasses

import pytest
import torch

from braincl_med.cortex.gaussians import moments
from braincl_med.federation import judgement
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals
from braincl_med.messages.report import Report
from braincl_med.records.store import RunStore
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.federation import FederationConfig
from tests.federation.experiments import tiny

SENT = {
    "conv": torch.linspace(-1, 1, 40).reshape(4, 10),
    "classifier.bias": torch.ones(3),
    "running_var": torch.ones(4),
    "num_batches_tracked": torch.tensor(5),
}


FARTHEST = FederationConfig().farthest


def implausible(reports, sent, farthest=FARTHEST):
    return judgement.implausible(reports, sent, farthest)


def update(name, step=0.1, seed=0, examples=10):
    noise = torch.Generator().manual_seed(seed)
    weights = {
        key: tensor + step * torch.randn(tensor.shape, generator=noise) if tensor.is_floating_point() else tensor + 9
        for key, tensor in SENT.items()
    }
    return Report(name, examples=examples, weights=weights)


def changed(report, change):
    weights = {
        key: change(tensor) if tensor.is_floating_point() else tensor for key, tensor in report.weights.items()
    }
    return dataclasses.replace(report, weights=weights)


HONEST = [update(f"site-{n}", seed=n) for n in range(4)]
LIES = {
    "a thousand times too large": (lambda t: 1000 * t, "times the network's size"),
    "as large as numbers get": (lambda t: torch.full_like(t, 1e30), "times the network's size"),
    "turned": (lambda t: -t, "their signs are turned"),
    "zero": (torch.zeros_like, "all its weights are zero"),
    "five times too large": (lambda t: 5 * t, "times as far as the median hospital"),
}


def test_honest_updates_of_unlike_hospitals_are_believed():
    unlike = [update("site-0", 0.05), update("site-1", 0.3, 1, examples=1000), update("site-2", 0.1, 2, examples=1)]
    assert implausible(unlike, SENT) == {}
    assert implausible(HONEST, SENT) == {}
    assert implausible([Report("site-9")], SENT) == {}, "a hospital without examples has nothing to judge"


@pytest.mark.parametrize("lie", LIES)
def test_what_no_training_makes_is_left_out_with_its_reason(lie):
    change, reason = LIES[lie]
    told = [*HONEST[:3], changed(HONEST[3], change)]
    assert list(implausible(told, SENT)) == ["site-3"]
    assert reason in implausible(told, SENT)["site-3"]


@pytest.mark.parametrize("lie", [lie for lie in LIES if not lie.startswith("five")])
def test_of_two_hospitals_the_honest_one_stays(lie):
    assert list(implausible([HONEST[0], changed(HONEST[1], LIES[lie][0])], SENT)) == ["site-1"]


def with_buffers(report, variance=1.0, batches=14):
    buffers = {"running_var": torch.full((4,), variance), "num_batches_tracked": torch.tensor(batches)}
    return dataclasses.replace(report, weights={**report.weights, **buffers})


@pytest.mark.parametrize(
    ("buffers", "reason"),
    [
        ({"variance": 1e30}, "its running statistics have size 2e+30, at most 2e+03"),
        ({"variance": 500.0}, "times as large as the median hospital's, at most 100"),
        ({"batches": 10**9}, "'num_batches_tracked' grew by more than 100,000,000 batches"),
        ({"batches": 2**53}, "'num_batches_tracked' grew by more than 100,000,000 batches"),
    ],
)
def test_statistics_and_counters_that_no_training_leaves_are_left_out(buffers, reason):
    honest = [with_buffers(one, 1.0 + number) for number, one in enumerate(HONEST[:3])]
    told = implausible([*honest, with_buffers(HONEST[3], **buffers)], SENT)
    assert list(told) == ["site-3"]
    assert reason in told["site-3"]


def test_statistics_alone_are_judged_as_well():
    def calibrated(name, variance):
        return Report(name, 5, weights={"running_var": torch.full((4,), variance)})

    assert implausible([calibrated("site-0", 40.0), calibrated("site-1", 1.0)], SENT) == {}
    assert list(implausible([calibrated("site-0", 1e6), calibrated("site-1", 1.0)], SENT)) == ["site-0"]


def test_features_far_larger_than_those_of_most_hospitals_are_left_out():
    def told(name, scale, seed):
        torch.manual_seed(seed)
        return Report(name, 6, weights=moments(scale * torch.randn(6, 4), torch.arange(6) % 3, 3))

    honest = [told("site-0", 1.0, 0), told("site-1", 20.0, 1), told("site-2", 0.1, 2)]
    assert implausible(honest, SENT) == {}
    reasons = implausible([*honest, told("site-3", 1e4, 3)], SENT)
    assert list(reasons) == ["site-3"]
    assert "its features are" in reasons["site-3"]
    assert implausible([honest[0], told("site-3", 1e4, 3)], SENT) == {}, "of two nobody can tell which is wrong"


def test_how_far_is_too_far_can_be_said_and_noise_that_must_be_there_is_never():
    away = changed(HONEST[1], lambda tensor: 4 * tensor)
    assert implausible([HONEST[0], away], SENT) == {}
    assert list(implausible([HONEST[0], away], SENT, farthest=2.0)) == ["site-1"]
    assert ExperimentConfig.model_validate({"federation": {"farthest": 2}}).farthest == 2
    private = {
        "privacy": {"mode": "updates"}, "memory": {"basis": "fixed"}, "selection": {"rule": "random"},
        "cortex": {"norm": "group"},
    }  # fmt: skip
    assert ExperimentConfig.model_validate(private).farthest == float("inf")


def test_a_run_goes_on_without_a_hospital_whose_weights_are_a_thousand_times_too_large(tmp_path):
    config = tiny(tmp_path, stream_task_count=1, federation_hospitals=3, federation_quorum=2)
    exchange = local_exchange(local_hospitals(config))

    def lying(order):
        *others, last = exchange(order)
        return [*others, changed(last, lambda tensor: 1000 * tensor) if order.phase == "sleep" else last]

    Coordinator(config, lying).run()
    missing = [step.missing for step in RunStore(tmp_path).steps("tiny") if step.phase == "sleep"]
    assert missing
    assert all("times the network's size" in step["site-2"] for step in missing)
