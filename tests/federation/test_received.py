"""A hospital looks at what it is sent before it computes."""

import json

import pytest
import torch

from braincl_med.cortex.gaussians import SHARES, no_moments
from braincl_med.federation.local import local_hospitals
from braincl_med.federation.seen import FOLDER, Seen, norm_of, write_seen
from braincl_med.foundation.errors import FederationError
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.base import grow
from braincl_med.methods.braincl import SLEEP
from braincl_med.methods.evaluate import EVALUATE
from braincl_med.methods.phase import BEFORE
from braincl_med.methods.publish import publish
from braincl_med.streams.named import build_registry
from braincl_med.streams.tasks import Registry
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
    "needs no former network": lambda weights: {**weights, BEFORE + "classifier.bias": weights["classifier.bias"]},
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


def scaled(factor):
    return lambda weights: {n: t * factor if t.is_floating_point() else t for n, t in weights.items()}


def test_a_network_beyond_all_training_is_refused_and_one_that_grew_is_not(hospital):
    assert "at most 1e+05 is taken" in ordered(hospital, "select", scaled(1e6)).failure
    assert not ordered(hospital, "select", dict).failure
    norm = norm_of(grow({}, hospital.config.cortex, 3))
    refused = ordered(hospital, "select", scaled(30)).failure
    assert float(refused.partition("at most ")[2].split()[0]) == pytest.approx(10 * norm, rel=0.2)
    assert not ordered(hospital, "select", scaled(3)).failure
    assert not ordered(hospital, "select", scaled(20)).failure, "the bound goes with the network"


def test_a_registry_grows_at_its_end_alone(hospital):
    first, second, third = build_registry(hospital.config.stream, hospital.config.seed).tasks
    seen = Seen()

    def told(tasks, task=0):
        nonlocal seen
        order = Order("tiny", task, "encode", 0, Registry(tasks=tasks))
        reason = seen.objection(order) or ""
        seen = seen if reason else seen.after(order)
        return reason

    assert not told((first, second))
    assert not told((first, third)), "what nobody has begun may be taken back"
    assert not told((first, third, second), 1)
    for other in ((first, second, third), (second, first, third), (first, third.model_copy(update={"name": "x"}))):
        assert "a registry grows at its end alone" in told(other)
    assert "a registry grows at its end alone" in told((first,))
    assert not told((first, third, second), 1)
    write_seen(hospital.vault.folder.parent / FOLDER / "tiny", seen)
    assert "a registry grows at its end alone" in ordered(hospital, "encode", lambda weights: {}).failure
    assert not hospital.vault.manifest().entries


def test_a_note_that_was_changed_is_refused(hospital):
    assert not ordered(hospital, "encode", lambda weights: {}).failure
    (note,) = (hospital.vault.folder.parent / FOLDER).glob("*/seen.json")
    assert note.stat().st_mode & 0o077 == 0
    note.write_bytes(note.read_bytes().replace(b'"norm":0.0', b'"norm":1e9'))
    assert "'seen.json' is damaged" in ordered(hospital, "encode", lambda weights: {}).failure


def test_only_what_a_report_may_hold_leaves_and_nothing_beside_it(hospital):
    report = ordered(hospital, "encode", lambda weights: {})
    allowed = {"hospital", "examples", "loss", "figures", "failure", "threads"}
    assert json.loads(report.text()).keys() == allowed
    for more in ({"paths": "/x"}, {"masking": 5}, {"loss": "low"}):
        with pytest.raises(FederationError, match="its answer cannot be used"):
            Report.parse(json.dumps({**json.loads(report.text()), **more}), {})


@pytest.mark.parametrize(
    ("phase", "figures"),
    [
        (SLEEP, {"paths": "/home"}),
        (SLEEP, {"classes": [1, 2]}),
        (SLEEP, {"classes": ["Doe"] * 3}),
        (EVALUATE, {"confusion": [[0] * 3] * 3, "scores": {}, "storage": {"John Doe": 1}}),
        (EVALUATE, {"confusion": [[0] * 3] * 3, "scores": {"energy": {"Doe": [1]}}, "storage": {}}),
        (EVALUATE, {"confusion": [[0.5] * 3] * 3, "scores": {}, "storage": {}}),
    ],
)
def test_figures_that_nobody_listed_do_not_leave_a_hospital(hospital, phase, figures):
    registry = build_registry(hospital.config.stream, hospital.config.seed)
    order = Order("tiny", 0, phase.name, 0, registry)
    with pytest.raises(FederationError, match=r"what .* cannot be sent"):
        publish(hospital, phase, order, Report("site-0", figures=figures))
    listed = (
        {"confusion": [[0] * 3] * 3, "scores": {}, "storage": {}} if phase is EVALUATE else {"classes": [1, 0, 2]}
    )
    assert publish(hospital, phase, order, Report("site-0", figures=listed)).figures == listed
