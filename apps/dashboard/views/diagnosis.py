"""One diagnosis: is it found, is it right when it is called, what is it taken for, and how has that moved."""

from math import isnan

import pandas as pd
import streamlit as st

from apps.dashboard import charts, frame
from braincl_med.evaluation.continual import class_accuracies
from braincl_med.evaluation.diagnosis import Diagnosis, Share, share_of
from braincl_med.evaluation.verdict import in_words
from braincl_med.records.schema import TOGETHER


def said(share: Share) -> str:
    """A share with its interval; why there is none."""
    if share.withheld:
        return "withheld: too few scans"
    return in_words(share) if share.whole else "-"


def counted(row: Diagnosis) -> pd.DataFrame:
    """What was counted of it now, each with what it means; a card would cut the interval."""
    first = "-" if isnan(row.first) else f"{100 * row.first:.0f} %"
    told = [
        ("Found", said(row.found), "of its own test scans, called by its name (sensitivity)"),
        ("Right when called", said(row.right), "of the scans called so, those that are of it (precision)"),
        ("False alarms", said(row.false_alarms), "of all other test scans, called so"),
        ("Found when it was learned", first, "of its test scans, after its own group"),
    ]
    return pd.DataFrame(told, columns=["Figure", "Counted", "What it is"]).set_index("Figure")


frame.begin("A diagnosis", "How well the shared network knows one diagnosis, and what it is confused with.")
record = frame.chosen()
frame.need_evaluation(record)
summary = record.summary
names, rows = record.names, {row.number: row for row in record.diagnoses}
chosen = st.selectbox("Diagnosis, the weakest first", list(rows), format_func=lambda number: names[number])
row = rows[chosen]
learned = next(number for number, task in enumerate(summary.tasks) if chosen in task.classes)
st.subheader(frame.plain(names[chosen]))
st.caption(f"Learned in group {learned + 1} ({frame.plain(summary.tasks[learned].name)}).")
frame.table(counted(row))

if row.taken_for:
    st.markdown("##### What it is taken for")
    taken = [(names[other], count, 100 * count / row.found.whole) for other, count in row.taken_for]
    frame.figures(pd.DataFrame(taken, columns=["Called", "Test scans", "Of its scans, %"]))

shares = class_accuracies(record.tally, record.smallest)[learned:, chosen]
if len(shares) > 1 and not row.found.withheld:
    st.markdown("##### As further diagnoses were added")
    points = pd.DataFrame(
        {"After": record.tasks[learned:], "Found": shares, "Diagnosis": [names[chosen]] * len(shares)}
    )
    st.altair_chart(
        charts.curves(points, "After", "Found", "Diagnosis", [names[chosen]], "After learning", "Found"),
        width="stretch",
    )

if summary.hospitals != (TOGETHER,) and len(summary.hospitals) > 1:
    st.markdown("##### By hospital")
    told = []
    for number, hospital in enumerate(summary.hospitals):
        counts = record.tally.latest[number, chosen]
        found = share_of(int(counts[chosen]), int(counts.sum()), record.smallest)
        told.append({"Hospital": hospital, "Found": said(found)})
    frame.table(pd.DataFrame(told).set_index("Hospital"))
    st.caption("Few scans at each hospital: look at the intervals before you compare.")
