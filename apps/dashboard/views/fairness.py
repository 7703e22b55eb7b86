"""Whether all diagnoses are served equally well."""

import numpy as np
import pandas as pd
import streamlit as st

from apps.dashboard import charts, data, frame
from braincl_med.evaluation.intervals import wilson
from braincl_med.records.schema import TOGETHER
from braincl_med.records.table import percent, points


def with_interval(name: str, correct: int, scans: int) -> dict[str, object]:
    """A row of the chart of intervals."""
    low, high = wilson(correct, scans)
    return {"name": name, "share": correct / scans, "low": low, "high": high, "text": f"{correct} of {scans}"}


def rows_by_class(record: data.Record, counts: np.ndarray) -> pd.DataFrame:
    """Accuracy and interval of each class that has test scans in `counts` (C, C)."""
    names = {row.number: row.name for row in record.summary.classes}
    return pd.DataFrame(
        [
            with_interval(names[number], int(counts[number, number]), int(counts[number].sum()))
            for number in range(record.known)
            if counts[number].sum() >= record.smallest
        ],
        columns=["name", "share", "low", "high", "text"],
    )


frame.begin(
    "Fairness",
    "Whether every diagnosis is recognised equally well. Points are accuracies; bars show how "
    "uncertain they are with so few test scans: the true accuracy lies within the bar in 95 of 100 cases "
    "(Wilson interval).",
)
record = frame.chosen()
frame.need_evaluation(record)
fair = record.summary.fairness
if fair is None:
    frame.sentence(f"No diagnosis has {record.smallest} test scans, and of fewer nothing is told.")

weakest = next(row for row in record.summary.classes if row.number == fair.worst_class)
st.markdown(
    f"Recognised least: **{frame.plain(weakest.name)}**, "
    f"{percent(fair.worst_accuracy)} of {weakest.scans} test scans, from the group *{frame.plain(weakest.task)}*."
)
figures = [
    ("Between diagnoses", fair.class_spread, "Best minus worst diagnosis."),
    (
        "Within a group",
        fair.within_tasks,
        "The largest difference between two diagnoses that were learned together (the paper's disparate impact).",
    ),
    ("Between groups", fair.between_tasks, "Best minus worst group of diseases, each the mean of its diagnoses."),
]
latest = record.tally.latest
hospitals = record.summary.hospitals
few = sum(0 < scans < record.smallest for scans in latest.sum((1, 2)))
withheld = (
    f" Left out: {record.summary.withheld} diagnoses and {few} hospitals of fewer than {record.smallest} test scans."
    if record.summary.withheld or few
    else ""
)
st.caption(
    "Largest differences in accuracy; 0 points are equal treatment; few scans never give exactly that." + withheld
)
frame.cards((label, points(value), about) for label, value, about in figures)

st.subheader("Between groups of patients")
examination = data.examined(record.summary.name)
if examination is None or not examination.patients:
    st.caption(
        "Not recorded: no manifest of a hospital's own scans tells age, sex or device, or `braincl evaluate` was not "
        "run since (docs/own-scans.md)."
    )
else:
    for kind, gap in examination.gaps().items():
        st.markdown(f"By {kind}, best minus worst group: **{points(gap)}**.")
    frame.figures(
        pd.DataFrame(
            [
                {
                    "By": one.kind,
                    "Group": one.group,
                    "Test scans": one.scans,
                    "Right, %": 100 * one.share,
                    "from": 100 * one.interval[0],
                    "to": 100 * one.interval[1],
                }
                for one in examination.patients
            ]
        )
    )
    st.caption(f"Groups of fewer than {record.smallest} test scans at a hospital are not told of.")

st.subheader("By diagnosis")
where = st.selectbox(
    "Test scans of", [TOGETHER, *(name for name in hospitals if name != TOGETHER)], key=f"where-{record.summary.name}"
)
counts = latest.sum(0) if where == TOGETHER else latest[hospitals.index(where)]
rows = rows_by_class(record, counts)
if len(rows):
    order = st.radio("Order", ["as learned", "weakest first"], horizontal=True)
    rows = rows.sort_values("share", kind="stable") if order == "weakest first" else rows
    st.altair_chart(charts.intervals(rows, "name", "Accuracy"), width="stretch")

    st.subheader("Which diagnoses are taken for which")
    st.markdown("A row is what the scans show, a column what was answered; the diagonal is right.")
    as_share = st.radio("Numbers", ["per cent of the row", "scans"], horizontal=True) == "per cent of the row"
    many = record.known > charts.MOST_NUMBERS
    names = [f"{row.number} · {row.name}" if many else row.name for row in record.summary.classes[: record.known]]
    answers = [str(row.number) if many else row.name for row in record.summary.classes[: record.known]]
    cells = pd.DataFrame(
        [
            {
                "Shown": names[true],
                "Answered": answers[predicted],
                "right": true == predicted,
                "share": counts[true, predicted] / counts[true].sum(),
                "text": percent(counts[true, predicted] / counts[true].sum(), 0)
                if as_share
                else f"{counts[true, predicted]}",
            }
            for true in range(record.known)
            for predicted in range(record.known)
            if counts[true].sum() >= record.smallest
        ]
    )
    drawn = charts.heatmap(cells, "Answered", "Shown", "share", "text", "Answered", None, right="right")
    st.altair_chart(drawn, width="stretch")
else:
    st.info(
        f"No diagnosis has as many test scans of {frame.plain(where)} after the latest group as may be told of.",
        icon=":material/info:",
    )
