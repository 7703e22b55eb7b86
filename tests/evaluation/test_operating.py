import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch.nn import functional

from braincl_med.evaluation.operating import (
    FEWEST,
    LARGEST_LOSS,
    SHARE,
    TEMPERATURES,
    Known,
    OperatingPoint,
    best_temperature,
    join,
    losses,
)
from braincl_med.evaluation.rejection import EDGES


def answers(scans=400, classes=5, sharpness=1.0, seed=0):
    """Logits that are right as often as they say, times `sharpness`, and true classes."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (scans, classes))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (shares.cumsum(1) < random.uniform(0, 1 - 1e-9, (scans, 1))).sum(1)
    return (sharpness * logits).astype(np.float32), labels


def known(source="validation", score="familiarity", seed=0, scans=400, sharpness=1.0):
    logits, labels = answers(scans, sharpness=sharpness, seed=seed)
    scores = -np.random.default_rng(seed).gamma(3, 4, scans)
    return Known.of(source, score, logits, scores, labels), scores


def test_losses_are_cross_entropies_at_every_temperature():
    logits, labels = answers()
    for temperature, found in zip(TEMPERATURES, losses(logits, labels), strict=True):
        scaled, targets = torch.from_numpy(logits).double() / temperature, torch.from_numpy(labels)
        each = functional.cross_entropy(scaled, targets, reduction="none").clamp(max=LARGEST_LOSS)
        assert found == pytest.approx(float(each.sum()), rel=1e-9)
    assert not losses(logits[:0], labels[:0]).any()


@pytest.mark.parametrize("sharpness", [0.3, 1, 3.7, 20])
def test_the_temperature_is_that_of_least_loss(sharpness):
    logits, labels = answers(sharpness=sharpness)
    scaled, targets = torch.from_numpy(logits).double(), torch.from_numpy(labels)
    oracle = minimize_scalar(
        lambda t: float(functional.cross_entropy(scaled / np.exp(t), targets)), bounds=(-3, 5), method="bounded"
    )
    assert best_temperature(losses(logits, labels)) == pytest.approx(np.exp(oracle.x), rel=0.005)
    # The answers were made with this one.
    assert best_temperature(losses(logits, labels)) == pytest.approx(sharpness, rel=0.2)


def test_answers_that_are_all_right_say_nothing_about_how_sure_is_too_sure():
    logits = 9 * np.eye(3, dtype=np.float32)
    assert best_temperature(losses(logits, np.arange(3))) == 1
    hopeless = best_temperature(losses(logits, np.array([1, 2, 0])))
    assert hopeless == TEMPERATURES[-1]


@given(st.integers(1, 300), st.floats(0.0, 0.5), st.integers(0, 50))
def test_the_threshold_sets_aside_the_stated_share_and_would_not_less_one_bin_higher(scans, share, seed):
    told, scores = known(seed=seed, scans=scans)
    point = join([[told]], "familiarity", share)
    aside = (scores < point.threshold).mean()
    assert aside <= share + 1e-12
    assert point.set_aside == pytest.approx(aside)
    above = EDGES["familiarity"][np.searchsorted(EDGES["familiarity"], point.threshold) + 1]
    assert (scores < above).mean() > share - 1e-12


def test_sums_of_hospitals_give_what_their_scans_together_would():
    parts = [known(seed=seed)[0] for seed in range(3)]
    whole = join([[part] for part in parts], "familiarity")
    logits, labels = (np.concatenate(part) for part in zip(*(answers(seed=seed) for seed in range(3)), strict=True))
    scores = np.concatenate([known(seed=seed)[1] for seed in range(3)])
    expected = join([[Known.of("validation", "familiarity", logits, scores, labels)]], "familiarity")
    assert whole.temperature == pytest.approx(expected.temperature)
    assert whole.model_copy(update={"temperature": 1, "hospitals": 1}) == expected.model_copy(
        update={"temperature": 1}
    )
    assert (whole.hospitals, whole.scans, whole.classes, whole.share) == (3, 1200, 5, SHARE)


def test_validation_scans_are_preferred_and_other_scores_do_not_count():
    validation, recalls = known()[0], known("recalls", seed=1)[0]
    training, evaluated = known("training", seed=2)[0], known("evaluated", seed=3)[0]
    alone = join([[validation]], "familiarity")
    assert join([[recalls], [validation], [training]], "familiarity") == alone
    assert join([[validation, recalls]], "familiarity") == alone
    assert join([[training], [recalls]], "familiarity").source == "mixed"
    assert join([[recalls], [recalls]], "familiarity").source == "recalls"
    assert join([[validation], [evaluated]], "familiarity").source == "evaluated"
    assert join([[validation]], "max-softmax") is None
    assert join([[known(scans=0)[0]]], "familiarity") is None
    assert join([[]], "familiarity") is join([], "familiarity") is None


def test_few_held_out_scans_or_such_of_few_classes_do_not_decide_alone():
    recalls = [[known("recalls", seed=seed)[0]] for seed in range(4)]
    one = known(scans=1)[0]
    assert join([*recalls, [one]], "familiarity").source == "mixed"
    assert join([*recalls, [one]], "familiarity").scans == 1601
    assert join([[one, recalls[0][0]]], "familiarity").hospitals == 1
    assert join([[one]], "familiarity").source == "validation"
    many = known()[0]
    lacking = dataclasses.replace(many, classes=many.classes * [1, 1, 1, 1, 0])
    assert join([[lacking]], "familiarity").source == "validation"
    both = join([[lacking], [recalls[0][0]]], "familiarity")
    assert (both.source, both.hospitals) == ("mixed", 2)
    few = known(scans=FEWEST - 1)[0]
    assert join([[few], [dataclasses.replace(recalls[0][0], classes=few.classes)]], "familiarity").source == "mixed"


def test_one_scan_moves_the_temperature_no_further_than_its_loss_may_be_large():
    honest = [[known(seed=seed, scans=200)[0]] for seed in range(4)]
    worst = np.full(len(TEMPERATURES), LARGEST_LOSS)
    worst[-1] = 0
    liar = dataclasses.replace(known(scans=1)[0], losses=worst)
    point = join([*honest, [liar]], "familiarity")
    assert point.temperature == pytest.approx(join(honest, "familiarity").temperature, rel=0.3)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 1e-300}, {"temperature": 1e-3}, {"temperature": 500.0}, {"threshold": 1e308},
        {"threshold": 0.5}, {"hospitals": True}, {"hospitals": "1"}, {"counts": [True] * 5}, {"counts": [2**60] * 5},
    ],
)  # fmt: skip
def test_what_nothing_can_have_measured_is_no_operating_point(change):
    sound = join([[known()[0]]], "familiarity").model_dump(mode="json")
    assert OperatingPoint.model_validate(sound)
    with pytest.raises(ValueError, match="validation error"):
        OperatingPoint.model_validate({**sound, **change})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("validation", "400 validation scans, of 5 of 5 classes at 1 hospital;"),
        ("evaluated", "which the recorded accuracy counts too"),
        ("recalls", "recalled from memory, which the network was trained on"),
    ],
)
def test_it_says_on_what_it_was_measured(source, words):
    point = join([[known(source)[0]]], "familiarity")
    assert words in str(point)
    assert "at most 5 % were to be" in str(point)
    assert OperatingPoint.model_validate_json(point.model_dump_json()) == point


def test_what_is_told_survives_the_message():
    told = known()[0]
    back = Known.told(told.as_figure())
    assert back.as_figure() == told.as_figure()
    assert join([[back]], "familiarity") == join([[told]], "familiarity")


def test_beside_familiarity_the_classifier_sets_half_of_the_share_aside():
    familiar, scores = known()
    logits, labels = answers()
    certain = np.exp(logits - logits.max(1, keepdims=True)).sum(1) ** -1.0
    sure = Known.of("validation", "max-softmax", logits, certain, labels)
    point = join([[familiar, sure]], "familiarity")
    assert point.share == SHARE
    assert point.temperature == join([[familiar]], "familiarity").temperature
    by_one, by_other = (scores < point.threshold).mean(), (certain < point.sure).mean()
    assert 0 < by_one <= SHARE / 2
    assert 0 < by_other <= SHARE / 2
    assert ((scores < point.threshold) | (certain < point.sure)).mean() <= point.set_aside <= SHARE
    assert point.set_aside == pytest.approx(by_one + by_other)
    assert "of the largest softmax" in str(point)
    assert join([[familiar, sure]], "max-softmax").sure is None
