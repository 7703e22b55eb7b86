"""Masked sums over hospitals in one process: exact whoever drops out, alike to plain ones, and no number in clear."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from braincl_med.cortex.gaussians import moments
from braincl_med.federation import masked_server, masks
from braincl_med.federation.aggregate import by_class
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.exchange import Hospitals
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.federation.masked_server import MaskedHospitals
from braincl_med.federation.masked_step import layout_of, report_of, values_of
from braincl_med.federation.seen import FOLDER
from braincl_med.foundation.errors import ConfigError, FederationError
from braincl_med.masking.wire import AskUnmask, AskUpload, asked
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods import METHODS
from braincl_med.methods.base import grow
from braincl_med.methods.evaluate import EVALUATE
from braincl_med.methods.phase import NOTHING
from braincl_med.methods.training import DISCRIMINATE, TRAIN
from braincl_med.records.schema import TOGETHER
from braincl_med.records.store import RunStore
from braincl_med.records.summary import summarise
from braincl_med.streams.named import build_registry
from tests.federation.experiments import drawn_start, tiny

FINETUNE = METHODS["finetune"]


def masked(folder, **overrides):
    settings = {
        "method": "finetune",
        "federation_masking": "on",
        "federation_hospitals": 4,
        "federation_classifier_rows": "by-class",
        "stream_share": "dirichlet",
        "sleep_epochs": 1,
        "sleep_rounds": 1,
    }
    return tiny(folder, **{**settings, **overrides})


def order_of(config, phase=TRAIN, number=0):
    registry = build_registry(config.stream, config.seed)
    torch.manual_seed(0)
    return Order("tiny", 0, phase.name, number, registry, grow({}, config.cortex, registry.seen(0)))


def kind(order):
    return type(asked(order.masking)).__name__ if order.masking else "plain"


def without(exchange, dropped):
    """An exchange in which hospitals do not answer to some steps of the protocol: their numbers by step."""

    def cut(order):
        away = {str(number) for number in dropped.get(kind(order), ())}
        return [answer for answer in exchange(order) if answer.sender not in away]

    return cut


@pytest.fixture
def watched(monkeypatch):
    """The plain vectors of every hospital before masking, and the decoded sums of the server."""
    seen = {"plain": {}, "sums": []}

    def masking(party, vectors):
        seen["plain"][party.name] = {bits: vector.copy() for bits, vector in vectors.items()}
        return mask(party, vectors)

    def reporting(sums, *rest):
        seen["sums"].append(sums)
        return report_of(sums, *rest)

    mask = masks.mask
    monkeypatch.setattr(masks, "mask", masking)
    monkeypatch.setattr(masked_server, "report_of", reporting)
    return seen


@pytest.mark.parametrize(
    ("dropped", "in_sum"),
    [
        ({}, "0123"),
        ({"AskKeys": [1]}, "023"),
        ({"AskUpload": [0]}, "123"),
        ({"AskUnmask": [2]}, "0123"),
        ({"AskKeys": [1], "AskUpload": [1], "AskUnmask": [1]}, "023"),
    ],
)
def test_a_masked_round_is_the_plain_fixed_point_sum_whoever_drops_out(tmp_path, watched, dropped, in_sum):
    config = masked(tmp_path)
    exchange = without(local_exchange(local_hospitals(config)), dropped)
    hospitals = MaskedHospitals(exchange, config.federation, config=config)
    order = order_of(config)
    outcome = hospitals.ask(order, TRAIN, FINETUNE, ())
    names = [f"site-{number}" for number in in_sum]
    assert list(outcome.present) == names
    layout = layout_of(order, TRAIN, FINETUNE, config)
    total = {bits: sum(watched["plain"][name][bits] for name in names) for bits in layout.lengths}
    expected = layout.decode(total)
    (found,) = watched["sums"]
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    # And that is what hospitals without masks would have been averaged to, but for the rounding.
    plain = [h for h in local_hospitals(tiny(tmp_path / "plain", **plain_settings(config))) if h.name in names]
    alone = Hospitals(local_exchange(plain), config.federation).ask(order, TRAIN, FINETUNE, ())
    (report,) = outcome.usable
    assert report.examples == sum(r.examples for r in alone.usable)
    merged = by_class(alone.usable, order.weights)
    for name, tensor in by_class(outcome.usable, order.weights).items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, merged[name], rtol=0, atol=1e-6)
        else:
            assert torch.equal(tensor, order.weights[name])


def plain_settings(config):
    names = ("hospitals", "classifier_rows")
    return {
        "method": config.method,
        **{f"federation_{name}": getattr(config.federation, name) for name in names},
        "stream_share": config.stream.share,
        "sleep_epochs": config.sleep.epochs,
        "sleep_rounds": config.sleep.rounds,
    }


@pytest.mark.parametrize(
    "dropped", [{"AskKeys": [0, 1]}, {"AskUpload": [0, 1]}, {"AskUnmask": [0, 1]}, {"AskKeys": [0], "AskUpload": [1]}]
)
def test_below_the_threshold_a_round_fails_and_goes_on_once_hospitals_are_back(tmp_path, dropped):
    config = masked(tmp_path)
    exchange = local_exchange(local_hospitals(config))
    order = order_of(config)
    failing = MaskedHospitals(without(exchange, dropped), config.federation, config=config)
    with pytest.raises(FederationError, match=r"the quorum is 3|2 hospitals told the shares .* 3 must"):
        failing.ask(order, TRAIN, FINETUNE, ())
    again = MaskedHospitals(exchange, config.federation, config=config).ask(order, TRAIN, FINETUNE, ())
    assert len(again.present) == 4


def test_a_step_that_was_summed_is_not_summed_again_over_fewer(tmp_path):
    """The difference of two sums of the same step would be one hospital's update."""
    config = masked(tmp_path)
    exchange, order = local_exchange(local_hospitals(config)), order_of(config)
    hospitals = MaskedHospitals(exchange, config.federation, config=config)
    hospitals.ask(order, TRAIN, FINETUNE, ())
    hospitals.ask(order, TRAIN, FINETUNE, ())
    hospitals.exchange = without(exchange, {"AskUpload": [3]})
    with pytest.raises(FederationError, match="was summed before over site-0, site-1, site-2, site-3"):
        hospitals.ask(order, TRAIN, FINETUNE, ())
    # Of another round it may.
    config = masked(tmp_path / "other", sleep_epochs=2, sleep_rounds=2)
    exchange = local_exchange(local_hospitals(config))
    hospitals = MaskedHospitals(exchange, config.federation, config=config)
    hospitals.ask(order_of(config), TRAIN, FINETUNE, ())
    hospitals.exchange = without(exchange, {"AskUpload": [3]})
    assert len(hospitals.ask(order_of(config, number=1), TRAIN, FINETUNE, ()).present) == 3


def test_one_upload_is_noise_and_says_nothing_in_clear(tmp_path, watched):
    config = masked(tmp_path)
    told = []

    def listening(order):
        answers = exchange(order)
        told.extend((kind(order), answer) for answer in answers)
        return answers

    exchange = local_exchange(local_hospitals(config))
    hospitals = MaskedHospitals(listening, config.federation, config=config)
    hospitals.ask(order_of(config), TRAIN, FINETUNE, ())
    hospitals.ask(order_of(config, EVALUATE), EVALUATE, FINETUNE, ())
    assert {step for step, _ in told} == {"AskKeys", "AskUpload", "AskUnmask"}
    for step, answer in told:
        assert (answer.examples, answer.loss, answer.figures) == (0, None, {})
        assert set(answer.weights) == ({"masked.32", "masked.64"} if step == "AskUpload" else set()) or (
            set(answer.weights) == {"masked.64"}
        )
    uploads = [answer for step, answer in told if step == "AskUpload"]
    for answer in uploads:
        sent = b"".join(tensor.numpy().tobytes() for tensor in answer.weights.values())
        assert abs(unevenness(sent)) < 5
    plain = b"".join(vector.tobytes() for vector in watched["plain"]["site-0"].values())
    assert unevenness(plain) > 1000, "the same numbers without masks fail the same test"


def unevenness(content):
    """χ² of bytes over 256 values, in standard deviations from its mean."""
    counts = np.bincount(np.frombuffer(content, np.uint8), minlength=256)
    expected = counts.sum() / 256
    return (((counts - expected) ** 2 / expected).sum() - 255) / np.sqrt(2 * 255)


def changed(**changes):
    return lambda asked: asked.model_copy(update=changes)


LIES = {
    "a key that nobody signed": (AskUpload, lambda a: replaced(a, 1, signature="00" * 64), "is not signed"),
    "another's key": (AskUpload, lambda a: replaced(a, 1, public=a.members[2].public), "is not signed"),
    "two hospitals": (AskUpload, lambda a: changed(members=a.members[:2])(a), "2 hospitals are too few"),
    "a session of another day": (AskUpload, changed(session="f" * 32), "is not signed"),
    "an overlap": (AskUnmask, lambda a: changed(dropped=("site-1",))(a), "overlap"),
    "too few alive": (
        AskUnmask,
        lambda a: changed(alive=a.alive[:2], dropped=a.alive[2:])(a),
        "2 hospitals are said to have answered|no masked numbers",
    ),
    "another sum": (AskUnmask, changed(sum="f" * 32), "no masked numbers of this hospital wait"),
}


def replaced(upload, number, **changes):
    members = list(upload.members)
    members[number] = members[number].model_copy(update=changes)
    return upload.model_copy(update={"members": tuple(members)})


@pytest.mark.parametrize("lie", LIES)
def test_a_hospital_answers_no_server_that_lies(tmp_path, lie):
    config = masked(tmp_path)
    step, change, reason = LIES[lie]
    honest = local_exchange(local_hospitals(config))

    def lying(order):
        question = asked(order.masking)
        if isinstance(question, step):
            order = dataclasses.replace(order, masking=change(question).text())
        return honest(order)

    hospitals = MaskedHospitals(lying, config.federation, config=config)
    with pytest.raises(FederationError, match=reason):
        hospitals.ask(order_of(config), TRAIN, FINETUNE, ())
    assert MaskedHospitals(honest, config.federation, config=config).ask(order_of(config), TRAIN, FINETUNE, ())


def test_a_sum_is_asked_for_once_and_nothing_leaves_without_masks(tmp_path):
    config = masked(tmp_path)
    honest, orders = local_exchange(local_hospitals(config)), []

    def keeping(order):
        orders.append(order)
        return honest(order)

    hospitals = MaskedHospitals(keeping, config.federation, config=config)
    hospitals.ask(order_of(config), TRAIN, FINETUNE, ())
    for order, reason in (
        (orders[1], "its masks are not used twice"),
        (orders[2], "no masked numbers of this hospital wait"),
        (dataclasses.replace(orders[1], masking=""), "train came without masks"),
        (dataclasses.replace(orders[1], masking='{"step": "all"}'), "what it says of masks cannot be used"),
    ):
        assert all(reason in answer.failure for answer in honest(order))
    off = local_exchange(local_hospitals(tiny(tmp_path / "off", **plain_settings(config))))
    assert all("came with masks, and here federation-masking is off" in a.failure for a in off(orders[1]))


def test_an_update_that_no_server_can_judge_is_judged_at_the_hospital(tmp_path, monkeypatch):
    config = masked(tmp_path)
    hospitals = local_hospitals(config)
    train = TRAIN.run

    def poisoned(site, order):
        report = train(site, order)
        if site.name != "site-1":
            return report
        return dataclasses.replace(report, weights={name: tensor * 100 for name, tensor in report.weights.items()})

    phases = dataclasses.replace(TRAIN, run=poisoned)
    monkeypatch.setattr(type(hospitals[0]), "permitted", lambda self, order: phases)
    outcome = MaskedHospitals(local_exchange(hospitals), config.federation, config=config).ask(
        order_of(config), TRAIN, FINETUNE, ()
    )
    assert list(outcome.missing) == ["site-1"]
    assert "this hospital's update of train is left out" in outcome.missing["site-1"]
    assert outcome.usable[0].examples > 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"weights": {}}, "the update is empty"),
        ({"examples": 5}, "it told numbers in clear"),
        ({"masking": ""}, "what it says of masks cannot be used"),
        ({"masking": json.dumps({"boxes": {}, "digests": []})}, "its shares are not for the hospitals of this sum"),
        ({"hospital": "site-9"}, "it made no key for this sum|answers as"),
    ],
)
def test_a_masked_answer_that_cannot_be_one_is_that_hospitals_refusal(tmp_path, change, reason):
    config = masked(tmp_path)
    honest = local_exchange(local_hospitals(config))

    def spoiling(order):
        answers = honest(order)
        if kind(order) == "AskUpload":
            answers[1] = dataclasses.replace(answers[1], **change)
        return answers

    hospitals = MaskedHospitals(spoiling, config.federation, config=config)
    outcome = hospitals.ask(order_of(config), TRAIN, FINETUNE, ())
    assert list(outcome.present) == ["site-0", "site-2", "site-3"]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(" ".join(outcome.missing.values()))


def test_an_experiment_under_masks_reaches_the_figures_of_one_without(tmp_path):
    overrides = {
        "method": "braincl",
        "federation_hospitals": 3,
        "stream_task_count": 1,
        "stream_share": "dirichlet",
        "federation_classifier_rows": "by-class",
        "federation_server_momentum": 0.5,
        "sleep_classifier": "discriminant",
    }
    run_locally(tiny(tmp_path / "plain", **overrides))
    run_locally(tiny(tmp_path / "masked", federation_masking="on", **overrides))
    plain, summed = (summarise(RunStore(tmp_path / name), "tiny") for name in ("plain", "masked"))
    assert (summed.matrix, summed.at_rest, summed.records) == (plain.matrix, plain.at_rest, plain.records)
    assert summed.hospitals == (TOGETHER,)
    steps = {step.phase: step for step in RunStore(tmp_path / "masked").steps("tiny")}
    assert steps["sleep"].hospitals == ("site-0", "site-1", "site-2")
    assert steps["select"].examples == 0, "what no sum needs is not told"
    told = {step.phase: (step.examples, step.loss) for step in RunStore(tmp_path / "plain").steps("tiny")}
    for phase in ("encode", "wake", "sleep", "discriminate", "evaluate"):
        assert steps[phase].examples == told[phase][0]
        assert steps[phase].loss == (None if told[phase][1] is None else pytest.approx(told[phase][1], abs=1e-5))
    for site in ("site-0", "site-1", "site-2"):
        for path in (tmp_path / "masked" / site / FOLDER).rglob("*"):
            assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("method", ["icarl", "der", "mygo", "mesu", "ewc", "replay-webp", "analytic"])
def test_every_methods_answers_fit_into_a_sum(tmp_path, method):
    """Layouts are made from the order alone; whatever a method answers must have its place in one."""
    start = drawn_start(tmp_path / "start.safetensors") if METHODS[method].facts.frozen else ""
    few = {"stream_task_count": 1, "sleep_rounds": 1, "sleep_epochs": 1, "mygo_generator_steps": 2}
    config = tiny(tmp_path, method=method, federation_hospitals=3, cortex_weights=start, **few)

    exchange, kept = local_exchange(local_hospitals(config)), []

    def keeping(order):
        answers = exchange(order)
        kept.append((order, answers))
        return answers

    Coordinator(config, keeping).run()
    phases = {phase.name: phase for phase in METHODS[config.method].phases}
    for order, answers in kept:
        phase = phases[order.phase]
        layout = layout_of(order, phase, METHODS[method], config)
        total = None
        for answer in answers:
            vectors, clipped = layout.encode(values_of(answer, order, phase, METHODS[method], config))
            assert not clipped
            total = vectors if total is None else {bits: total[bits] + vectors[bits] for bits in vectors}
        together = report_of(layout.decode(total), order, phase, METHODS[method], config)
        assert together.examples == sum(answer.examples for answer in answers)
        if phase.answer is not NOTHING and answers[0].weights:
            assert together.weights.keys() == answers[0].weights.keys()
            assert phase.answer.objection(together.weights, METHODS[method].trainable(order.weights)) is None


def test_small_groups_are_not_recorded(tmp_path):
    config = masked(tmp_path, federation_smallest_group=5)
    order = order_of(config, EVALUATE)
    layout = layout_of(order, EVALUATE, FINETUNE, config)
    classes = order.registry.seen(0)
    confusion = np.diag([4, 5, *[9] * (classes - 2)]).tolist()
    bins = [0] * (len(layout.decode(layout.encode([])[0])["scores.energy.known-correct"]))
    figures = {
        "confusion": confusion,
        "scores": {"energy": {"known-correct": [4, *bins[1:]], "known-wrong": [5, *bins[1:]]}},
        "storage": {"cues": 7},
    }
    vectors, _ = layout.encode(values_of(Report("site-0", 18, figures=figures), order, EVALUATE, FINETUNE, config))
    told = report_of(layout.decode(vectors), order, EVALUATE, FINETUNE, config).figures
    assert np.diag(told["confusion"]).tolist() == [0, 5, *[9] * (classes - 2)]
    assert told["scores"].keys() == {"energy"}
    assert told["scores"]["energy"].keys() == {"known-wrong"}
    assert told["storage"] == {"cues": 7, "records": 0}


def test_what_differs_from_a_plain_sum_of_moments_is_rounding(tmp_path):
    config = masked(tmp_path, method="braincl", sleep_classifier="discriminant")
    order = order_of(config, DISCRIMINATE)
    features = torch.rand(30, 64)
    labels = torch.arange(30) % order.registry.seen(0)
    told = moments(features, labels, order.registry.seen(0))
    layout = layout_of(order, DISCRIMINATE, METHODS["braincl"], config)
    report = Report("site-0", 30, weights=told)
    vectors, clipped = layout.encode(values_of(report, order, DISCRIMINATE, METHODS["braincl"], config))
    found = report_of(layout.decode(vectors), order, DISCRIMINATE, METHODS["braincl"], config).weights
    assert clipped == 0
    for name, tensor in told.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"hospitals": 2}, "needs 3 to 100 hospitals"),
        ({"hospitals": 4, "masking_threshold": 2}, "must be more than half"),
        ({"hospitals": 4, "masking_threshold": 5}, "must be more than half"),
        ({"hospitals": 4, "quorum": 2}, "federation-quorum 2 is below the 3 hospitals that unmask a sum"),
    ],
)
def test_settings_that_would_unmask_somebody_are_refused(tmp_path, settings, reason):
    with pytest.raises(ConfigError, match=reason):
        tiny(tmp_path, federation_masking="on", **{f"federation_{key}": value for key, value in settings.items()})


def test_the_threshold_is_two_thirds_and_the_quorum_without_masks_as_before(tmp_path):
    def least(hospitals, **more):
        config = tiny(tmp_path, federation_hospitals=hospitals, **more).federation
        return config.least, config.masked_least

    assert [least(n, federation_masking="on") for n in (3, 4, 5, 6, 10)] == [(2, 2), (3, 3), (4, 4), (4, 4), (7, 7)]
    assert least(10, federation_masking="on", federation_quorum=9) == (9, 7)
    assert least(10) == (10, 1)


def test_keys_are_agreed_on_once_a_task_and_again_for_who_was_away(tmp_path):
    config = masked(tmp_path)
    exchange, steps = local_exchange(local_hospitals(config)), []

    def counting(order):
        steps.append(kind(order))
        return exchange(order)

    hospitals = MaskedHospitals(counting, config.federation, config=config)
    hospitals.ask(order_of(config), TRAIN, FINETUNE, ())
    hospitals.ask(order_of(config, EVALUATE), EVALUATE, FINETUNE, ())
    assert steps == ["AskKeys", "AskUpload", "AskUnmask", "AskUpload", "AskUnmask"]
    config = masked(tmp_path / "away")
    exchange = local_exchange(local_hospitals(config))
    cut = without(counting, {"AskKeys": [2]})
    hospitals = MaskedHospitals(cut, config.federation, config=config)
    assert len(hospitals.ask(order_of(config), TRAIN, FINETUNE, ()).present) == 3
    hospitals.exchange = counting
    steps.clear()
    assert len(hospitals.ask(order_of(config, EVALUATE), EVALUATE, FINETUNE, ()).present) == 4
    assert steps == ["AskKeys", "AskUpload", "AskUnmask"]
