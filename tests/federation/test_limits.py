"""Nobody speaks of more scans than it can have."""

import numpy as np
import pytest
import torch

from braincl_med.dp.gaussian import multiplier_for
from braincl_med.dp.statistics import released, statistics
from braincl_med.evaluation.rejection import EDGES, KNOWN
from braincl_med.federation.exchange import Hospitals
from braincl_med.federation.limits import Limits
from braincl_med.federation.members import Members
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.braincl import ENCODE, RELEASE, SELECT, SLEEP
from braincl_med.methods.evaluate import EVALUATE
from braincl_med.methods.finetune import FINETUNE
from braincl_med.settings.federation import FederationConfig
from braincl_med.settings.privacy import PrivacyConfig
from braincl_med.streams.catalogue import classes_of
from tests.federation.experiments import tiny
from tests.federation.test_exchange import REGISTRY, answer, evaluation

LIMITS = Limits(train=10, test=4, unknown=8)
CLASSES = len(REGISTRY.tasks[0].classes)
LATER = sum(len(task.classes) for task in REGISTRY.tasks[1:])


def scored(group, scans):
    """Figures with a histogram that counts `scans` of a group."""
    return {"scores": {"energy": {group: [scans] + [0] * (len(EDGES["energy"]) - 2)}}}


def both(right, wrong):
    groups = [scored(group, scans)["scores"]["energy"] for group, scans in zip(KNOWN, (right, wrong), strict=True)]
    return {"scores": {"energy": groups[0] | groups[1]}}


def objection(phase, report, task=0, encoded=None, limits=LIMITS):
    order = Order("tiny", task, phase.name, 0, REGISTRY)
    return limits.objection(report, order, phase, encoded or {})


@pytest.mark.parametrize("phase", [ENCODE, SLEEP])
def test_before_anything_was_announced_the_settings_say_how_much_there_can_be(phase):
    assert objection(phase, Report("a", 10 * CLASSES)) is None
    assert "can have 30" in objection(phase, Report("a", 10 * CLASSES + 1))


def test_what_was_announced_bounds_what_is_trained_on_and_kept():
    encoded = {0: 7, 1: 5}
    assert objection(SLEEP, Report("a", 12), 1, encoded) is None
    assert objection(SLEEP, Report("a", 13), 1, encoded) == "it claims 13 samples, and can have 12"
    assert objection(SELECT, Report("a", 6), 1, encoded) == "it claims 6 samples, and can have 5"
    # A task that it missed and made up for later was never announced.
    assert objection(SLEEP, Report("a", 10 * CLASSES + 5), 1, {1: 5}) is None
    assert objection(ENCODE, Report("a", 9), 0, {0: 7}) is None, "its memory was lost and encoded anew"


def test_samples_by_class_are_those_that_an_update_weighs():
    assert objection(SLEEP, Report("a", 6, figures={"classes": [1, 2, 3]})) is None
    assert "claims 6 samples, and counts 30 by class" in objection(
        SLEEP, Report("a", 6, figures={"classes": [10, 10, 10]})
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"figures": {"confusion": [[0, 5, 0]] + [[0] * 3] * 2}}, "counts 5 scans of a class, and can have 4"),
        ({"figures": {"confusion": [[10**6] * 3] * 3}}, "counts 3,000,000 scans of a class"),
        ({"examples": 5}, "it claims 5 scans, and counts 6"),
        ({"figures": both(6, 1)}, "scores 7 scans by 'energy' as known"),
        ({"figures": scored("known-wrong", 10**8)}, "scores 100,000,000 scans by 'energy' as known"),
        ({"figures": scored("unknown-near", 4 * LATER + 1)}, f"as unknown-near, and can have {4 * LATER}"),
        ({"figures": scored("unknown-far", 9)}, "scores 9 scans by 'energy' as unknown-far, and can have 8"),
    ],
)
def test_an_evaluation_counts_no_more_than_there_is_to_evaluate(changes, reason):
    sound = answer(0, **evaluation())
    odd = evaluation(**changes.pop("figures", {}))
    forged = answer(1, **{**odd, "examples": sum(map(sum, odd["figures"]["confusion"])), **changes})
    hospitals = Hospitals(lambda order: [sound, forged], FederationConfig(hospitals=2, quorum=1), limits=LIMITS)
    outcome = hospitals.ask(Order("tiny", 0, "evaluate", 0, REGISTRY), EVALUATE, FINETUNE, ())
    assert [r.hospital for r in outcome.usable] == ["site-0"]
    assert reason in outcome.missing["site-1"]


@pytest.mark.parametrize(
    ("source", "counts", "sound"),
    [
        ("validation", [4, 4, 4], True),
        ("validation", [5, 0, 0], False),
        ("recalls", [5, 2, 0], True),
        ("recalls", [5, 3, 0], False),
    ],
)
def test_known_scans_are_no_more_than_there_are(source, counts, sound):
    figures = {"confusion": [[0] * 3] * 3, "known": [{"source": source, "classes": counts}]}
    assert (objection(EVALUATE, Report("a", 0, figures=figures), 0, {0: 7}) is None) == sound


def test_as_many_scans_may_be_scored_as_there_are():
    groups = both(4, 2)["scores"]["energy"]
    for group, scans in (("unknown-near", 4 * LATER), ("unknown-far", 8)):
        groups |= scored(group, scans)["scores"]["energy"]
    assert objection(EVALUATE, answer(0, **evaluation(scores={"energy": groups}))) is None


def test_unknown_scans_are_counted_from_the_sets_that_the_settings_name(tmp_path):
    config = tiny(tmp_path, stream_unknown="phantom-fundus")
    assert Limits.of(config, 10, REGISTRY).unknown == config.stream.test_per_class * len(classes_of("phantom-fundus"))


def test_released_sums_are_no_larger_than_those_of_the_scans_that_there_can_be():
    limits = Limits(10, 4, privacy=PrivacyConfig(mode="statistics"))
    noise = multiplier_for(2, 1e-5) * 3**0.5
    generator = np.random.default_rng(1)
    exact = statistics(torch.eye(5).repeat(6, 1), torch.arange(30) % CLASSES, CLASSES)
    told = released(exact, range(CLASSES), noise / 3**0.5, generator)
    for name in told:
        sound = {key: tensor / 30 for key, tensor in told.items()}
        assert objection(RELEASE, Report("a", 30, weights=sound), limits=limits) is None
        forged = {**sound, name: torch.full_like(sound[name], 30 + 7 * noise * CLASSES**0.5) / 30}
        assert "its statistics are those of" in objection(RELEASE, Report("a", 30, weights=forged), limits=limits)


def test_private_numbers_may_exceed_the_scans_by_their_noise():
    updates = Limits(10, 4, privacy=PrivacyConfig(mode="updates"))
    assert objection(SLEEP, Report("a", 1), limits=updates) is None
    assert "can have 1" in objection(SLEEP, Report("a", 2), limits=updates), "every hospital weighs as much"
    released_sums = Limits(10, 4, privacy=PrivacyConfig(mode="statistics"))
    noise = multiplier_for(2, 1e-5) * 3**0.5 * CLASSES**0.5
    assert objection(RELEASE, Report("a", int(30 + 4 * noise)), limits=released_sums) is None
    assert "can have" in objection(RELEASE, Report("a", int(30 + 7 * noise)), limits=released_sums)
    counted = Report("a", 8, figures={"confusion": [[8, 0, 0], [0] * 3, [0] * 3]})
    assert objection(EVALUATE, counted, limits=released_sums) is None
    assert objection(EVALUATE, counted) is not None


def test_what_one_hospital_announced_is_no_others():
    members = Members().encoding(0, [Report("site-0", 5), Report("site-1", 9)])
    answers = [answer(n, examples=9, weights={"w": torch.ones(3)}) for n in range(2)]
    hospitals = Hospitals(
        lambda order: answers, FederationConfig(hospitals=2, quorum=1), members=members, limits=LIMITS
    )
    order = Order("tiny", 0, "train", 0, REGISTRY, {"w": torch.zeros(3)})
    outcome = hospitals.ask(order, FINETUNE.phases[0], FINETUNE, ())
    assert [r.hospital for r in outcome.usable] == ["site-1"]
