"""A hospital looks at what it is sent before it computes."""

import pytest
import torch

from braincl_med.cortex.gaussians import SHARES, no_moments
from braincl_med.federation.local import local_hospitals
from braincl_med.messages.order import Order
from braincl_med.methods.base import grow
from braincl_med.streams.named import build_registry
from tests.federation.experiments import tiny


def without(name):
    return lambda weights: {key: tensor for key, tensor in weights.items() if key != name}


def with_(name, change):
    return lambda weights: {**weights, name: change(weights[name])}


NETWORKS = {
    "lacks 'classifier.bias'": without("classifier.bias"),
    "holds 'more', which was not asked for": lambda weights: {**weights, "more": torch.zeros(3)},
    r"'classifier.weight' is torch.float32 \(4, 64\), expected torch.float32 \(3, 64\)": with_(
        "classifier.weight", lambda tensor: torch.zeros(4, 64)
    ),
    "torch.float64": with_("classifier.bias", torch.Tensor.double),
    "not finite": with_("classifier.bias", lambda tensor: tensor * float("nan")),
    "the update is empty": lambda weights: {},
    "needs no moments": lambda weights: {**weights, **no_moments(weights)},
}


@pytest.fixture
def hospital(tmp_path):
    return local_hospitals(tiny(tmp_path))[0]


def ordered(hospital, phase, change, method=None):
    registry = build_registry(hospital.config.stream, hospital.config.seed)
    weights = change(grow({}, hospital.config.cortex, registry.seen(0)))
    return hospital.answer(Order("tiny", 0, phase, 0, registry, weights))


@pytest.mark.parametrize("reason", NETWORKS)
def test_another_network_than_the_hospitals_own_configuration_has_is_refused(hospital, reason):
    report = ordered(hospital, "sleep", NETWORKS[reason])
    assert report.failure.startswith("what the server sent with sleep cannot be used: ")
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(report.failure)


def test_moments_that_no_samples_have_and_tensors_that_nobody_needs_are_refused(hospital):
    def lying(weights):
        return {**weights, **no_moments(weights), SHARES: torch.full((3,), -1.0, dtype=torch.float64)}

    assert "the shares of classes are no shares" in ordered(hospital, "evaluate", lying).failure
    assert "encode needs no tensors, and came with" in ordered(hospital, "encode", dict).failure
    assert not hospital.vault.manifest().entries
