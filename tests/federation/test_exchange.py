import dataclasses

import pytest
import torch

from braincl_med.evaluation.rejection import EDGES
from braincl_med.federation.exchange import Hospitals
from braincl_med.foundation.errors import FederationError
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.evaluate import EVALUATE
from braincl_med.methods.finetune import FINETUNE
from braincl_med.methods.training import TRAIN
from braincl_med.settings.config import FederationConfig
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
        ({"figures": {"classes": [1]}}, "counts 1 classes, expected 3"),
        ({"figures": {"classes": [True, 0, 0]}}, "its figures cannot be used"),
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
    return {"weights": {}, "figures": {**sound, **changes}}


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


def test_two_that_begin_under_one_name_are_both_refused():
    outcome = asked(federation([answer(0), answer(1, name="north"), answer(2, name="north")]))
    assert [r.hospital for r in outcome.usable] == ["site-0"]
    assert outcome.missing == {"north": "two hospitals answer as 'north': give each its own name or partition-id"}


def test_who_was_not_connected_was_not_asked():
    outcome = asked(federation([answer(0)], hospitals=3), known=("site-0", "site-1"))
    assert outcome.asked == 1
    assert outcome.missing == {"site-1": "not connected", "unnamed-1": "not connected"}


def test_a_failure_before_a_hospital_knew_its_name_is_recorded_under_the_name_that_it_had():
    hospitals = federation([answer(0), answer(1)], hospitals=2)
    asked(hospitals)
    hospitals.exchange = lambda order: [answer(0), Report("", failure="it burns", sender="1")]
    assert asked(hospitals, known=("site-0", "site-1")).missing == {"site-1": "it burns"}
