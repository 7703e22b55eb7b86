import numpy as np
import pytest
from scipy.stats import entropy

from braincl_med.evaluation.examination import (
    BINS,
    COMBINED,
    Confidence,
    Examination,
    Group,
    Reference,
    Rough,
    Spectrum,
    effective_rank,
    histogram_of,
    joined,
)
from braincl_med.messages.figures import objection_to_examination

FINE = len(BINS["max-softmax"]) - 1


def told(seed: int = 0) -> Examination:
    """What a hospital could tell of twelve scans of three classes."""
    rng = np.random.default_rng(seed)
    scores = {kind: (edges[0] + rng.random(12) * (edges[-1] - edges[0])) for kind, edges in BINS.items()}
    rows = {kind: histogram_of(kind, values).tolist() for kind, values in scores.items()}
    return Examination(
        temperature=1.5,
        confidence=Confidence(right=rows["max-softmax"], wrong=[0] * FINE),
        scores={kind: {"known-correct": row} for kind, row in rows.items()},
        set_aside={COMBINED: {"known-correct": 3}, "energy": {"known-correct": 1}},
        work={"max-softmax": {"known-correct": 2}, "familiarity": {"known-correct": 1}},
        reference=Reference(source="validation", scans=30),
        conditions={"jpeg": Rough(scans=[4, 4, 4], clean=[4, 3, 2], right=[[4, 3, 2 - (n > 2)] for n in range(5)])},
        spectrum=Spectrum(values=[3.0, 1.0], scans=12),
        attention=[[0] * 19 + [4], [1] + [0] * 19],
        patients={"age: 60 to 79": Group(scans=6, right=5)},
    )


def objection(**changes):
    return objection_to_examination({**told().model_dump(), **changes}, 3)


def test_a_sound_examination_is_believed_and_survives_json():
    assert objection() is None
    assert Examination.model_validate_json(told().model_dump_json()) == told()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"confidence": {"right": [1], "wrong": [1]}}, f"not {FINE} bins"),
        ({"confidence": {"right": [-1] * FINE, "wrong": [0] * FINE}}, "greater than or equal to 0"),
        ({"scores": {"hearsay": {"known-correct": [1]}}}, "no score of known groups"),
        ({"scores": {"energy": {"patients": [0] * 500}}}, "no score of known groups"),
        ({"scores": {"energy": {"known-correct": [0] * 499}}}, "have not 500 bins"),
        ({"scores": {"energy": {"known-correct": [0.5] * 500}}}, "valid integer"),
        ({"set_aside": {"energy": {"known-correct": 13}}, "work": {}}, "more scans aside by 'energy'"),
        ({"work": {"energy": {"known-correct": 1}}}, "work of other scores"),
        ({"work": {"max-softmax": {"known-correct": 4}}}, "more scans aside than the whole"),
        ({"reference": None}, "without reference scans"),
        ({"reference": {"source": "hearsay", "scans": 1}}, "reference.source"),
        ({"conditions": {"jpeg": {"scans": [4], "clean": [4], "right": [[4]] * 5}}}, "not 3 classes"),
        ({"conditions": {"jpeg": {"scans": [4] * 3, "clean": [4] * 3, "right": [[4] * 3] * 4}}}, "at least 5 items"),
        ({"conditions": {"jpeg": {"scans": [4] * 3, "clean": [5] * 3, "right": [[4] * 3] * 5}}}, "more answers are"),
        ({"conditions": {"../x": {"scans": [4] * 3, "clean": [4] * 3, "right": [[4] * 3] * 5}}}, "pattern"),
        ({"spectrum": {"values": [-1.0], "scans": 3}}, "greater than or equal to 0"),
        ({"spectrum": {"values": [float("nan")], "scans": 3}}, "finite number"),
        ({"spectrum": {"values": [1.0], "scans": 0}}, "greater than or equal to 1"),
        ({"patients": {"age: 60 to 79": {"scans": 6, "right": 7}}}, "of a group of patients"),
        ({"patients": {"age: 60 to 79": {"scans": 13, "right": 7}}}, "of a group of patients"),
        ({"patients": {"age: 61": {"scans": 6, "right": 5}}}, "a group of patients that is none"),
        ({"patients": {"sex: 1946": {"scans": 6, "right": 5}}}, "a group of patients that is none"),
        (
            {"patients": {f"sex: {sex}": {"scans": 7, "right": 5} for sex in ("female", "male")}},
            "by sex it tells of more scans",
        ),
        ({"patients": {"name: Ada": {"scans": 6, "right": 6}}}, "pattern"),
        ({"attention": [[1] * 20]}, "attention to more scans than it answered"),
        ({"attention": [[0] * 20] * 4}, "attention is not of 3 classes at most"),
        ({"attention": [[0] * 19]}, "in 20 bins"),
        ({"temperature": 0.0}, "greater than 0"),
        ({"names": ["Ada"]}, "not permitted"),
    ],
)
def test_what_no_hospital_can_have_counted_is_refused(changes, reason):
    assert reason in objection(**changes)


def test_hospitals_add_up():
    first, second = told(1), told(2)
    alone = second.model_copy(update={"conditions": {}, "reference": None, "set_aside": {}, "work": {}})
    both = joined([first, second])
    assert both.scans == 24
    assert both.set_aside[COMBINED] == {"known-correct": 6}
    assert both.work == {"max-softmax": {"known-correct": 4}, "familiarity": {"known-correct": 2}}
    assert both.conditions["jpeg"].right[4] == [8, 6, 2]
    for kind in BINS:
        summed = np.add(first.scores[kind]["known-correct"], second.scores[kind]["known-correct"])
        assert both.scores[kind]["known-correct"] == summed.tolist()
    assert joined([first, alone]).conditions == first.conditions
    assert joined([first, alone]).reference == first.reference
    recalls = second.model_copy(update={"reference": Reference(source="recalls", scans=5)})
    assert joined([first, recalls]).reference == Reference(source="recalls", scans=35)
    other = second.model_copy(update={"spectrum": Spectrum(values=[1.0, 0.0], scans=36)})
    assert joined([first, other]).spectrum == Spectrum(values=[1.5, 0.25], scans=48)
    fewer = second.model_copy(update={"attention": second.attention[:1]})
    assert joined([first, fewer, alone.model_copy(update={"attention": []})]).attention == [
        [0] * 19 + [8],
        [1] + [0] * 19,
    ]


def test_the_effective_rank_is_that_of_scipys_entropy():
    values = np.random.default_rng(0).random(20)
    assert effective_rank(values) == pytest.approx(np.exp(entropy(values)), abs=1e-6)
    assert effective_rank(np.ones(7)) == pytest.approx(7)
    assert effective_rank(np.array([2.0, 0, 0])) == pytest.approx(1)
    assert np.isnan(effective_rank(np.zeros(3)))
