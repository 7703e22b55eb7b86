import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braincl_med.foundation.errors import FederationError
from braincl_med.messages.report import LARGEST_LOSS, LONGEST_TEXT, MOST_SAMPLES, Report, told_loss

SOUND = {"hospital": "site-0", "examples": 3, "loss": 0.5, "figures": {}, "failure": "", "threads": 2}


def text(**changes):
    return json.dumps({**SOUND, **changes})


def test_a_report_survives_the_round_trip():
    report = Report("St. Mary's (north)", 3, 0.5, {"classes": [1, 2]}, threads=2)
    assert Report.parse(report.text(), {}) == report
    assert Report.parse(text(loss=None), {}).loss is None
    assert Report.parse(text(loss=1), {}).loss == 1.0


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (text(examples=True), "examples: input should be a valid integer"),
        (text(examples=1.5), "examples: input should be a valid integer"),
        (text(examples="12"), "examples: input should be a valid integer"),
        (text(examples=-1), "examples: input should be greater than or equal to 0"),
        (text(examples=10**19), f"examples: input should be less than or equal to {MOST_SAMPLES}"),
        (text(examples=2**62), f"examples: input should be less than or equal to {MOST_SAMPLES}"),
        (text(loss=10**400), "loss: "),
        (text(loss=1e308), "loss: input should be less than or equal to"),
        (text().replace("0.5", "1e999"), "loss: "),
        (text().replace("0.5", "NaN"), "loss: "),
        (text(loss=True), "loss: "),
        (text(hospital="", failure=""), "it has no name"),
        (text(hospital="../site-1"), "hospital"),
        (text(hospital="site-0 "), "hospital"),
        (text(hospital="site-0\u200d"), "hospital"),
        (text(hospital="a\u001b[31m"), "hospital"),
        (text(hospital="x" * 10**6), "hospital"),
        (text(figures=[]), "figures: "),
        (text(extra=1), "extra: "),
        (text().replace("{}", '{"a":' * 10**5 + "1" + "}" * 10**5), "recursion limit"),
        (text().replace("3,", "9" * 5000 + ","), "number out of range"),
        ("x", "its text: invalid json"),
        ("{}", "hospital: field required"),
        (text(failure="y" * 10**6), "failure: "),
        (" " * (LONGEST_TEXT + 1), "characters, at most"),
    ],
)
def test_whatever_is_wrong_with_an_answer_is_one_short_sentence(told, reason):
    with pytest.raises(FederationError) as refused:
        Report.parse(told, {})
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 250
    assert "\n" not in str(refused.value)


def test_a_failures_sentence_is_printable():
    assert Report.parse(text(failure="it\u001b[2J burns\n"), {}).failure == "it [2J burns "


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
@settings(max_examples=50, deadline=None)
def test_any_text_is_read_or_refused(told):
    with contextlib.suppress(FederationError):
        assert Report.parse(told, {}).examples >= 0


@pytest.mark.parametrize(
    ("loss", "told"), [(0.5, 0.5), (None, None), (float("nan"), None), (float("inf"), None), (2 * LARGEST_LOSS, None)]
)
def test_a_loss_that_is_no_number_is_not_told(loss, told):
    assert told_loss(loss) == told
