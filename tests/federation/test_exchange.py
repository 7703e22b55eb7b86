import dataclasses
import time

import pytest
import torch

from braincl_med.cortex.gaussians import impossible_moments, moments
from braincl_med.evaluation.rejection import EDGES
from braincl_med.federation.exchange import Hospitals
from braincl_med.foundation.errors import FederationError
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report, size_of
from braincl_med.methods.evaluate import EVALUATE
from braincl_med.methods.finetune import FINETUNE
from braincl_med.methods.training import CALIBRATE, DISCRIMINATE, TRAIN
from braincl_med.settings.federation import FederationConfig
from braincl_med.streams.named import build_registry
from tests.federation.experiments import tiny

REGISTRY = build_registry(tiny("/nowhere").stream, 1)
NETWORK = {"w": torch.zeros(3)}


def answer(number, name=None, **changes):
    """A sound answer of the hospital that the transport knows as `number`."""
    report = Report(name or f"site-{number}", 2, weights={"w": torch.ones(3)}, sender=str(number))
    return dataclasses.replace(report, **changes)


def asked(hospitals, phase=TRAIN, known=()):
    order = Order("tiny", 0, phase.name, 0, REGISTRY, NETWORK)
    return hospitals.ask(order, phase, FINETUNE, known)


def federation(answers, hospitals=3, quorum=1):
    return Hospitals(lambda order: answers, FederationConfig(hospitals=hospitals, quorum=quorum))


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"weights": {}}, "the update is empty"),
        ({"weights": {"v": torch.ones(3)}}, "the update lacks 'w'"),
        ({"weights": {"w": torch.ones(3), "v": torch.ones(3)}}, "holds 'v', which was not asked for"),
        ({"weights": {"w": torch.ones(4)}}, "(4,), expected"),
        ({"weights": {"w": torch.full((3,), float("nan"))}}, "not finite"),
        ({"figures": {"classes": [1, 0, 1]}}, "counts samples of classes, which was not asked for"),
        ({"figures": {"paths": "/home"}}, "its figures cannot be used"),
        ({"examples": 0}, "it holds tensors, which were not asked for"),
        ({"failure": "the disk is full"}, "the disk is full"),
    ],
)
def test_one_odd_answer_is_that_hospitals_refusal_and_the_quorum_goes_on(odd, reason):
    outcome = asked(federation([answer(0), answer(1, **odd), answer(2)]))
    assert [r.hospital for r in outcome.usable] == ["site-0", "site-2"]
    assert list(outcome.missing) == ["site-1"]
    assert reason in outcome.missing["site-1"]
    with pytest.raises(FederationError, match="2 of 3 hospitals gave a usable answer, the quorum is 3"):
        asked(federation([answer(0), answer(1, **odd), answer(2)], quorum=3))


def test_an_answers_reason_is_one_line_that_changes_no_terminal():
    forged = "\x1b[2J\nevaluate round 1: site-0 is missing"
    odd = [
        answer(1, figures={forged: 1}),
        answer(2, weights={"w": torch.ones(3), forged: torch.ones(1)}),
        Report("site-3", failure=forged, sender="3"),
        answer(4, **evaluation(scores={forged: {forged: []}})),
    ]
    missing = asked(federation([answer(0), *odd], 5)).missing
    assert set(missing) == {"site-1", "site-2", "site-3", "site-4"}
    assert all(reason.isprintable() and len(reason) <= 500 for reason in missing.values())


def test_counts_of_classes_are_refused_where_no_classifier_was_asked_for():
    outcome = asked(federation([answer(0), answer(1, figures={"classes": [1, 1, 1]})], 2))
    assert "counts samples of classes, which was not asked for" in outcome.missing["site-1"]


def moments_of(features, labels, classes=3):
    return moments(features, torch.tensor(labels), classes)


@pytest.mark.parametrize(
    "change",
    [
        {"moments.second": -torch.eye(4, dtype=torch.float64)},
        {"moments.second": torch.full((4, 4), 1e300, dtype=torch.float64)},
        {"moments.shares": torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)},
        {"moments.shares": torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)},
        {"moments.sums": torch.full((3, 4), 1e6, dtype=torch.float64)},
    ],
)
def test_moments_that_no_samples_have_are_refused(change):
    torch.manual_seed(0)
    sound = moments_of(torch.randn(6, 4), [0, 0, 1, 1, 1, 0])
    network = {"classifier.weight": torch.zeros(3, 4), "classifier.bias": torch.zeros(3)}
    order = Order("tiny", 0, "discriminate", 0, REGISTRY, network)
    answers = [answer(0, weights=sound), answer(1, weights={**sound, **change})]
    outcome = federation(answers, 2).ask(order, DISCRIMINATE, FINETUNE, ())
    assert [r.hospital for r in outcome.usable] == ["site-0"]
    assert moments_of(torch.zeros(1, 4), [2]).keys() == sound.keys()
    assert impossible_moments(moments_of(torch.zeros(1, 4), [2])) is None


@pytest.mark.parametrize(
    ("name", "value"), [("bn.running_var", torch.tensor([-5.0])), ("bn.num_batches_tracked", torch.tensor(-1))]
)
def test_statistics_that_no_network_has_are_refused(name, value):
    network = {"bn.running_var": torch.ones(1), "bn.num_batches_tracked": torch.tensor(3)}
    order = Order("tiny", 0, "calibrate", 0, REGISTRY, network)
    answers = [answer(0, weights=network), answer(1, weights={**network, name: value})]
    outcome = federation(answers, 2).ask(order, CALIBRATE, FINETUNE, ())
    assert [r.hospital for r in outcome.usable] == ["site-0"]
    assert name in outcome.missing["site-1"]


def test_a_flood_of_numbers_costs_no_time():
    flood = answer(1, **evaluation(confusion=[[-1] * 3] * 200_000))
    more = answer(2, **evaluation(), **{})
    more.figures.update({str(n): 1 for n in range(200_000)})
    begun = time.process_time()
    outcome = asked(federation([answer(0, **evaluation()), flood, more]), EVALUATE)
    assert time.process_time() - begun < 2
    assert [r.hospital for r in outcome.usable] == ["site-0"]


def test_of_two_hospitals_the_honest_one_is_kept_whatever_the_other_sends():
    for other in ({"v": torch.ones(3)}, {"w": torch.ones(3), "v": torch.ones(1)}):
        outcome = asked(federation([answer(0), answer(1, weights=other)], hospitals=2))
        assert [r.hospital for r in outcome.usable] == ["site-0"]


def evaluation(**changes):
    bins = [0] * (len(EDGES["energy"]) - 1)
    sound = {
        "confusion": [[2, 0, 0], [0, 2, 0], [0, 0, 2]],
        "scores": {"energy": {"known-correct": bins}},
        "storage": {"cues": 10},
    }
    return {"weights": {}, "examples": 6, "figures": {**sound, **changes}}


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"confusion": [[2**53] * 3] * 3}, "less than or equal to"),
        ({"confusion": [[1.5] * 3] * 3}, "valid integer"),
        ({"confusion": []}, "its confusion is not 3 by 3"),
        ({"storage": {"../../x": 1}}, "storage"),
        ({"storage": {"cues": 2**62}}, "less than or equal to"),
        ({"scores": {"energy": {"known-correct": [1]}}}, "have not 500 bins"),
        ({"scores": {"e" * 10**5: {}}}, "no score of known groups"),
    ],
)
def test_figures_beyond_all_limits_are_that_hospitals_refusal(odd, reason):
    outcome = asked(federation([answer(0, **evaluation()), answer(1, **evaluation(**odd))], 2), EVALUATE)
    assert [r.hospital for r in outcome.usable] == ["site-0"]
    assert reason in outcome.missing["site-1"]
    assert len(outcome.missing["site-1"]) < 250


def test_a_hospital_that_answers_under_anothers_name_is_refused_and_the_other_is_not():
    hospitals = federation([answer(0), answer(1), answer(2)])
    asked(hospitals)
    hospitals.exchange = lambda order: [answer(0), answer(1, name="site-0"), answer(2)]
    outcome = asked(hospitals, known=("site-0", "site-1", "site-2"))
    assert [r.hospital for r in outcome.usable] == ["site-0", "site-2"]
    assert "answers as 'site-0', which is not its name" in outcome.missing["site-1"]
    # A stranger who comes later cannot take a name either, nor can a hospital change its own.
    hospitals.exchange = lambda order: [answer(0, name="elsewhere"), answer(1), answer(7, name="site-2"), answer(2)]
    outcome = asked(hospitals)
    assert [r.hospital for r in outcome.usable] == ["site-1", "site-2"]
    assert set(outcome.missing) == {"site-0", "node-7"}


def test_a_useless_answer_takes_nobodys_name_with_it():
    for other in ({"failure": "x"}, {"weights": {}}):
        outcome = asked(federation([answer(0), answer(1, name="site-0", **other)], 2))
        assert [(r.hospital, r.sender) for r in outcome.usable] == [("site-0", "0")]
        assert list(outcome.missing) == ["node-1"], "nobody is present and missing"


def test_every_refused_answer_is_recorded_whatever_it_calls_itself():
    failing = [Report("north", failure="it burns", sender=str(n)) for n in (1, 2)]
    more = [answer(0, name="node-2"), Report("", failure="it drowns", sender="2")]
    outcome = asked(federation([*more, *failing], 4))
    assert outcome.present.keys() == {"node-2"}
    assert outcome.missing == {"node-2?": "it drowns", "north": "it burns", "node-2??": "it burns"}


def test_a_hospital_that_comes_back_as_another_sender_keeps_its_name():
    hospitals = federation([answer(0), answer(1)], hospitals=2)
    asked(hospitals)
    hospitals.exchange = lambda order: [answer(0), answer(9, name="site-1")]
    assert [r.hospital for r in asked(hospitals).usable] == ["site-0", "site-1"]


def test_two_that_begin_under_one_name_are_both_refused():
    outcome = asked(federation([answer(0), answer(1, name="north"), answer(2, name="north")]))
    assert [r.hospital for r in outcome.usable] == ["site-0"]
    reason = "two hospitals answer as 'north': give each its own name or partition-id"
    assert outcome.missing == {"north": reason, "node-2": reason}


def test_who_was_not_connected_was_not_asked():
    outcome = asked(federation([answer(0)], hospitals=3), known=("site-0", "site-1"))
    assert outcome.bytes_down == size_of(Order("tiny", 0, TRAIN.name, 0, REGISTRY, NETWORK))
    assert outcome.missing == {"site-1": "not connected", "unnamed-1": "not connected"}


def test_a_failure_before_a_hospital_knew_its_name_is_recorded_under_the_name_that_it_had():
    hospitals = federation([answer(0), answer(1)], hospitals=2)
    asked(hospitals)
    hospitals.exchange = lambda order: [answer(0), Report("", failure="it burns", sender="1")]
    assert asked(hospitals, known=("site-0", "site-1")).missing == {"site-1": "it burns"}


def test_where_the_quorum_is_missed_some_reasons_are_told_and_the_rest_counted():
    failed = [Report(f"site-{n}", failure="x" * 500, sender=str(n)) for n in range(40)]
    with pytest.raises(FederationError, match=r"0 of 40 hospitals gave a usable answer.*and 30 more") as caught:
        asked(federation(failed, 40))
    assert len(str(caught.value)) < 6000
