import numpy as np
import pytest

from braincl_med.evaluation.operating import TEMPERATURES, Known
from braincl_med.messages.figures import objection_to_figures

LOGITS, LABELS = np.eye(3, dtype=np.float32), np.arange(3)
SOUND = Known.of("validation", "max-softmax", LOGITS, np.full(3, 0.5), LABELS).as_figure()


def objection(known):
    figures = {"confusion": [[0] * 3] * 3, "scores": {}, "storage": {}, "known": known}
    return objection_to_figures(figures, True, 3)


def test_sums_over_known_scans_may_be_told_and_left_out():
    assert objection(SOUND) is None
    assert objection(None) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"losses": [1.0]}, f"losses at 1 temperatures, expected {len(TEMPERATURES)}"),
        ({"losses": [-1.0] * len(TEMPERATURES)}, "greater than or equal to 0"),
        ({"losses": ["x"] * len(TEMPERATURES)}, "valid number"),
        ({"losses": [float("nan")] * len(TEMPERATURES)}, "finite number"),
        ({"losses": [1e300] * len(TEMPERATURES)}, "less than or equal"),
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


@pytest.mark.parametrize("known", [3, [], {}, "known"])
def test_what_are_no_sums_is_refused(known):
    assert "its figures cannot be used: known" in objection(known)


def test_they_are_not_asked_for_elsewhere():
    assert "'known' was not asked for" in objection_to_figures({"known": SOUND}, False, 3)
