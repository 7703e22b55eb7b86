"""How accuracy on earlier diseases holds as further ones are added."""

from math import isnan

import numpy as np
import pandas as pd
import streamlit as st

from apps.dashboard import charts, data, frame
from braincl_med.evaluation.continual import class_accuracies
from braincl_med.records.table import percent
from braincl_med.records.table import points as in_points

MOST_CURVES = 8
ALL = "all known diagnoses"


def by_group(record: data.Record) -> dict[str, list[float]]:
    """Accuracy of each group of diseases after each step; NaN before it is learned."""
    matrix = np.array(record.summary.matrix)
    return {name: matrix[:, j].tolist() for j, name in enumerate(record.tasks)}


def by_diagnosis(record: data.Record) -> dict[str, list[float]]:
    """Accuracy of each diagnosis after each step; NaN before it is learned."""
    accuracies = class_accuracies(record.tally, record.smallest)
    return {row.name: accuracies[:, row.number].tolist() for row in record.summary.classes[: record.known]}


frame.begin(
    "Accuracy as diseases are added",
    "Each group of diseases is learned after the others. A curve that stays up is a disease that is remembered; "
    "a curve that falls is one that is being forgotten.",
)
record = frame.chosen()
frame.need_evaluation(record)

kind = st.radio("One curve for each", ["group of diseases", "diagnosis"], horizontal=True)
series = by_group(record) if kind == "group of diseases" else by_diagnosis(record)
weakest_first = sorted(series, key=lambda name: (isnan(series[name][-1]), series[name][-1]))
shown = st.multiselect(
    "Curves",
    list(series),
    default=[name for name in series if name in weakest_first[: MOST_CURVES - 1]],
    key=f"curves-{kind}-{record.summary.name}",
    help=f"At first those recognised least now; more than {MOST_CURVES} are hard to tell apart.",
)
with_all = st.toggle(f"Also {ALL} together", value=True)
values = {name: series[name] for name in series if name in shown}
if with_all:
    values[ALL] = list(record.summary.after_each)
points = pd.DataFrame(
    [
        {"After": record.tasks[step], "Accuracy": accuracy, "Curve": name}
        for name, accuracies in values.items()
        for step, accuracy in enumerate(accuracies)
        if not isnan(accuracy)
    ],
    columns=["After", "Accuracy", "Curve"],
)
if len(points):
    # The first curve may begin late: the steps' order is the experiment's, not the first rows'.
    points = points.sort_values("After", key=lambda c: c.map(record.tasks.index), kind="stable")
    st.altair_chart(
        charts.curves(points, "After", "Accuracy", "Curve", list(values), "After learning", "Accuracy"),
        width="stretch",
    )
else:
    st.info("No test scans have been counted for what is chosen here.", icon=":material/info:")

st.subheader("Accuracy of every group after every step")
st.markdown("Read along a column to see how a group fares as others are added; the diagonal is when it was learned.")
cells = pd.DataFrame(
    [
        {"After learning": after, "Accuracy on": on, "share": value, "text": percent(value, 0)}
        for after, row in zip(record.tasks, record.summary.matrix, strict=True)
        for on, value in zip(record.tasks, row, strict=True)
        if not isnan(value)
    ],
    columns=["After learning", "Accuracy on", "share", "text"],
)
if len(cells):
    st.altair_chart(
        charts.heatmap(cells, "Accuracy on", "After learning", "share", "text", "Accuracy on", "After learning"),
        width="stretch",
    )
frame.cards(
    [
        (
            "Average accuracy",
            percent(record.summary.average_accuracy),
            "The mean over the steps of the accuracy on all diagnoses known by then.",
        ),
        (
            "Forgetting",
            in_points(record.summary.forgetting),
            "The best accuracy a former group ever had minus the one it has now, averaged over former groups.",
        ),
    ]
)
