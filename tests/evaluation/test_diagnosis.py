"""Figures of one diagnosis against scikit-learn's and SciPy's, and the sentence that they come to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, recall_score

from braincl_med.evaluation.diagnosis import Share, diagnoses
from braincl_med.evaluation.tally import Tally
from braincl_med.evaluation.verdict import Limits, in_words, verdict

NAMES = {0: "Eosinophil", 1: "Basophil", 2: "Monocyte", 3: "Platelet"}
TASKS = ("first", "second")


def tally(confusions):
    """Of (T, C, C) counts of one hospital."""
    return Tally.of(("site-0",), confusions[:, None])


def counts(*rows):
    return np.array(rows, np.int64)


@given(st.integers(2, 6), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_figures_are_those_of_other_libraries(classes, scans, seed):
    rng = np.random.default_rng(seed)
    true, called = rng.integers(0, classes, scans), rng.integers(0, classes, scans)
    confusion = confusion_matrix(true, called, labels=range(classes))
    rows = diagnoses(tally(confusion[None]), [range(classes)])
    precision, recall, _, support = precision_recall_fscore_support(
        true, called, labels=range(classes), zero_division=np.nan
    )
    for row in rows:
        n = row.number
        assert row.found.whole == support[n]
        assert row.found.value == pytest.approx(recall[n], abs=1e-6, nan_ok=True)
        assert row.right.value == pytest.approx(precision[n], abs=1e-6, nan_ok=True)
        others = true != n
        if others.any():
            specificity = recall_score(true != n, called != n, zero_division=np.nan)
            assert row.false_alarms.value == pytest.approx(1 - specificity, abs=1e-6)
        assert sum(count for _, count in row.taken_for) == row.found.whole - row.found.part


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_interval_is_wilsons(part, more):
    share = Share(part, part + more)
    expected = binomtest(part, part + more).proportion_ci(method="wilson")
    assert share.interval == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_precision_at_a_prevalence_is_bayes_and_at_the_tests_mix_the_precision():
    (sick, _) = diagnoses(tally(counts([45, 5], [30, 120])[None]), [range(2)])
    assert sick.precision_at(50 / 200) == pytest.approx(sick.right.value)
    assert sick.precision_at(0.01) == pytest.approx(0.9 * 0.01 / (0.9 * 0.01 + 0.2 * 0.99))
    assert np.isnan(diagnoses(tally(counts([0, 5], [0, 5])[None]), [range(2)])[0].precision_at(0.5))


def history():
    """Two classes, then two more: basophils were found always, and then taken for monocytes."""
    before, after = np.zeros((4, 4), np.int64), counts([48, 0, 2, 0], [4, 36, 10, 0], [0, 1, 49, 0], [0, 0, 0, 50])
    before[:2, :2] = [[49, 1], [0, 50]]
    return np.stack([before, after])


def test_the_verdict_is_the_sentence_of_the_weakest_and_names_what_was_not_judged():
    rows = diagnoses(tally(history()), [range(2), range(2, 4)])
    said = verdict(rows, NAMES, TASKS, Limits(sensitivity=0.8))
    assert said.ready is False
    assert said.sentence == (
        "Not ready: 1 of 4 diagnoses is below 80 %. Basophil: 36 of 50 (72 %, 58 to 83) found, it was 100 % before "
        "group 2 (second); most were called Monocyte."
    )
    assert NAMES[said.judged[0].number] == "Basophil"
    assert "how often it is right when it is called" in said.not_judged
    assert "how many of its scans are found" not in said.not_judged


def test_without_limits_there_is_no_verdict_and_none_is_a_default():
    rows = diagnoses(tally(history()), [range(2), range(2, 4)])
    assert verdict(rows, NAMES, TASKS, Limits()).ready is None
    assert len(verdict(rows, NAMES, TASKS, Limits()).not_judged) == 5
    assert verdict((), NAMES, TASKS, Limits(sensitivity=0.5)).ready is None


@pytest.mark.parametrize(
    ("limits", "ready"),
    [
        ({"sensitivity": 0.72}, True),
        ({"sensitivity": 0.7201}, False),
        ({"fall": 0.28}, True),
        ({"fall": 0.27}, False),
        ({"scans": 50}, True),
        ({"scans": 51}, False),
        ({"false-alarms": 0.08}, True),
        ({"false-alarms": 0.079}, False),
        ({"precision": 49 / 61}, True),
        ({"precision": 0.81}, False),
    ],
)
def test_each_limit_is_kept_to_its_edge(limits, ready):
    rows = diagnoses(tally(history()), [range(2), range(2, 4)])
    assert verdict(rows, NAMES, TASKS, Limits.model_validate(limits)).ready is ready


def test_a_share_that_reaches_below_its_limit_by_chance_is_said():
    rows = diagnoses(tally(history()), [range(2), range(2, 4)])
    said = verdict(rows, NAMES, TASKS, Limits(sensitivity=0.7))
    assert said.ready
    assert "For 1 of them chance alone" in said.sentence
    assert "36 of 50 (72 %, 58 to 83)" in said.sentence


def test_groups_below_the_smallest_are_withheld_and_never_ready():
    rows = diagnoses(tally(counts([3, 0], [0, 50])[None]), [range(2)], smallest=5)
    assert (rows[0].found.withheld, rows[0].taken_for) == (True, ())
    assert np.isnan(rows[0].found.value)
    said = verdict(rows, NAMES, TASKS, Limits(sensitivity=0.5))
    assert said.ready is False
    assert "fewer test scans than may be told of" in said.sentence
    assert "3" not in said.sentence.split("Eosinophil")[1]
    assert verdict(rows, NAMES, TASKS, Limits(fall=0.5)).ready is False, "nobody knows what it lost"


def test_limits_are_strict():
    for wrong in ({"sensitivity": 80}, {"recall": 0.8}, {"scans": 0}, {"fall": float("nan")}):
        with pytest.raises(ValidationError):
            Limits.model_validate(wrong)


def test_shares_read_as_people_say_them():
    assert in_words(Share(36, 50)) == "36 of 50 (72 %, 58 to 83)"
