"""How sure is it: calibration, what happens if it refers what it is unsure of, and what becomes of unknown scans."""

from math import isnan

import pandas as pd
import streamlit as st

from apps.dashboard import charts, data, frame
from apps.dashboard.words import GROUPS, SCORES
from braincl_med.evaluation.rejection import KNOWN
from braincl_med.records.examined import DEFAULT_SCORE, Examined


def ranges(low: float, high: float) -> str:
    """An interval of shares, in percent."""
    return f"{100 * low:.0f} to {100 * high:.0f}"


def calibration(found: Examined) -> None:
    """How often it is right when it says how sure it is."""
    st.subheader("When it says 90 %, is it right in 90 of 100?")
    st.markdown(
        f"Over {found.scans:,} test scans its confidence is off by {100 * found.calibration_error:.1f} points on "
        f"average (expected calibration error), after division by the temperature {found.temperature:.2f} that other "
        "scans decided."
    )
    bins = [one for one in found.reliability if one.scans]
    rows = pd.DataFrame(
        {
            "name": [f"{100 * one.low:.0f} to {100 * one.high:.0f} %" for one in bins],
            "share": [one.accuracy for one in bins],
            "low": [one.interval[0] for one in bins],
            "high": [one.interval[1] for one in bins],
            "text": [f"{one.scans:,} scans, sure of {100 * one.confidence:.0f} % on average" for one in bins],
        }
    )
    st.altair_chart(charts.intervals(rows, "name", "Right, where it was so sure"), width="stretch")


def referral(found: Examined) -> None:
    """What is left where the least sure scans go to a person."""
    st.subheader("If it refers what it is least sure of")
    told = [one for one in found.referrals if not isnan(one.accuracy)]
    tenth = next((one for one in told if one.asked == 0.1), None)
    if tenth is not None:
        st.markdown(
            f"If it refers {100 * tenth.referred:.0f} % to you, it is right in **{100 * tenth.accuracy:.1f} %** of "
            f"the other {tenth.answered:,} ({ranges(*tenth.interval)})."
        )
    frame.figures(
        pd.DataFrame(
            {
                "Referred, %": [100 * one.referred for one in told],
                "Answered": [one.answered for one in told],
                "Right of these, %": [100 * one.accuracy for one in told],
                "from": [100 * one.interval[0] for one in told],
                "to": [100 * one.interval[1] for one in told],
            }
        )
    )


def unknown(found: Examined) -> None:
    """What it sets aside, by thresholds that other scans decided, and how well scores tell groups apart."""
    st.subheader("Unknown scans, and mistakes")
    aside = [one for one in found.set_aside if one.score == DEFAULT_SCORE]
    if aside:
        st.markdown(
            f"Thresholds come from {found.reference_scans:,} {found.reference} scans, never from those that are "
            "judged here. Of right answers few should be set aside, of all others many."
        )
        frame.figures(
            pd.DataFrame(
                {
                    "Scans": [GROUPS.get(one.group, one.group) for one in aside],
                    "Set aside": [one.aside for one in aside],
                    "of": [one.scans for one in aside],
                    "Share, %": [100 * one.share for one in aside],
                    "from": [100 * one.interval[0] for one in aside],
                    "to": [100 * one.interval[1] for one in aside],
                    "by confidence": [one.by_softmax for one in aside],
                    "by familiarity": [one.by_familiarity for one in aside],
                }
            )
        )
    st.markdown(
        "How well each score tells them apart (AUROC: 50 is a guess, 100 is always; mistakes against right answers, "
        "all others against known scans):"
    )
    groups = [group for group in dict.fromkeys(one.group for one in found.separations) if group != KNOWN[0]]
    scores = list(dict.fromkeys(one.score for one in found.separations))
    rows = []
    for score in scores:
        row: dict[str, object] = {"Score": SCORES.get(score, score)}
        for group in groups:
            one = found.separation(score, group)
            row[f"{GROUPS.get(group, group)}, %"] = None if one is None else 100 * one.auroc
        rows.append(row)
    frame.figures(pd.DataFrame(rows))


frame.begin("How sure is it?", "Whether its confidence can be believed, and what becomes of unknown scans.")
record = frame.chosen()
examination = data.examined(record.summary.name)
if examination is None:
    frame.sentence("This was not measured.", f"`braincl evaluate {frame.plain(record.summary.name)}` measures it.")
st.caption(f"Measured after group {examination.after_task + 1} ({frame.plain(examination.task)}).")
calibration(examination)
referral(examination)
unknown(examination)
