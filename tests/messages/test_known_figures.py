import numpy as np
import pytest

from braincl_med.evaluation.operating import LARGEST_LOSS, TEMPERATURES, Known
from braincl_med.messages.figures import objection_to_figures
from braincl_med.messages.report import MOST_SAMPLES

LOGITS, LABELS = np.eye(3, dtype=np.float32), np.arange(3)
SOUND = Known.of("validation", "max-softmax", LOGITS, np.full(3, 0.5), LABELS).as_figure()


def objection(*known):
    figures = {"confusion": [[0] * 3] * 3, "scores": {}, "storage": {}, "known": list(known)}
    return objection_to_figures(figures, True, 3)


def test_sums_over_known_scans_may_be_told_and_left_out():
    assert objection(SOUND) is None
    assert objection(SOUND, {**SOUND, "source": "recalls"}) is None
    assert objection() is None
    assert objection_to_figures({"confusion": [[0] * 3] * 3, "scores": {}, "storage": {}}, True, 3) is None


def test_a_source_is_told_of_once_by_each_score():
    assert "two sums over known scans of one source and score" in objection(SOUND, SOUND)
    familiar = Known.of("validation", "familiarity", LOGITS, np.full(3, -9.0), LABELS).as_figure()
    assert objection(SOUND, familiar) is None
    assert "its figures cannot be used: known" in objection(*[SOUND] * 9)


def test_each_scan_may_cost_as_much_as_the_least_probable_class():
    most = [3 * LARGEST_LOSS] * len(TEMPERATURES)
    assert objection({**SOUND, "losses": most}) is None
    honest = Known.of("validation", "max-softmax", 1e6 * LOGITS, np.full(3, 0.5), LABELS[::-1]).as_figure()
    assert objection(honest) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"losses": [1.0]}, f"losses at 1 temperatures, expected {len(TEMPERATURES)}"),
        ({"losses": [-1.0] * len(TEMPERATURES)}, "greater than or equal to 0"),
        ({"losses": ["x"] * len(TEMPERATURES)}, "valid number"),
        ({"losses": [float("nan")] * len(TEMPERATURES)}, "finite number"),
        ({"losses": [1e300] * len(TEMPERATURES)}, "less than or equal"),
        ({"losses": [*[1e15] * (len(TEMPERATURES) - 1), 0.0]}, "less than or equal"),
        ({"losses": [*[208.0] * (len(TEMPERATURES) - 1), 0.0]}, "larger than 3 known scans can have, 69.08 each"),
        ({"losses": [True] * len(TEMPERATURES)}, "valid number"),
        ({"histogram": [0] * 202 + [2], "classes": [1, 1, 1]}, "not equally many"),
        (
            {"histogram": [0] * 201 + [MOST_SAMPLES, 3], "classes": [MOST_SAMPLES, 2, 1]},
            "it counts 100,000,003 known scans, at most 100,000,000 are believed",
        ),
        ({"histogram": [3]}, "histogram of 'max-softmax' has not 203 bins"),
        ({"score": "familiarity"}, "histogram of 'familiarity' has not 501 bins"),
        ({"classes": [1, 2]}, "of 2 classes, expected 3"),
        ({"classes": [1, 2, 300]}, "not equally many"),
        ({"classes": [1, 2, -3]}, "greater than"),
        ({"source": "hearsay"}, "source"),
        ({"score": "energy"}, "score"),
        ({"more": 1}, "not permitted"),
    ],
)
def test_sums_that_belong_to_no_scans_are_refused(change, reason):
    assert reason in objection({**SOUND, **change})


@pytest.mark.parametrize("known", [3, [], {}, "known", None])
def test_what_are_no_sums_is_refused(known):
    assert "its figures cannot be used: known" in objection(known)


def test_they_are_not_asked_for_elsewhere():
    assert "'known' was not asked for" in objection_to_figures({"known": SOUND}, False, 3)
