"""How a run stands, what was learned on which scans, and how that compares with other experiments."""

from math import isnan

import pandas as pd
import streamlit as st

from apps.dashboard import charts, data, frame
from apps.dashboard.words import METHODS
from braincl_med.records.standing import estimate
from braincl_med.records.summary import Summary
from braincl_med.records.table import duration, percent, size
from braincl_med.records.table import points as in_points

HELP = {
    "average": "After every group of diseases all known diagnoses are tested; this is the mean of those accuracies.",
    "last": "The share of test scans of all known diagnoses that are recognised now.",
    "forgetting": "How far accuracy on earlier groups has fallen below the best they ever had, on average. "
    "0 points mean nothing was forgotten; below 0 they improved.",
    "worst": "The accuracy of the diagnosis that is recognised least.",
    "rest": "What all hospitals together keep on disk for good: with BrainCL coded memories and the "
    "networks that recall them.",
    "wire": "Network weights and messages sent to and from all hospitals, over the whole run. Scans are never sent.",
}


def headline(summary: Summary) -> None:
    """Six figures."""
    worst = summary.fairness
    figures = [
        ("Accuracy now", percent(summary.last_accuracy), HELP["last"]),
        ("Weakest diagnosis", percent(worst.worst_accuracy if worst else None), HELP["worst"]),
        ("Forgetting", in_points(summary.forgetting), HELP["forgetting"]),
        ("Average accuracy", percent(summary.average_accuracy), HELP["average"]),
        ("Kept on disk", frame.kept(summary), HELP["rest"]),
        ("Sent over the network", size(summary.bytes_on_wire), HELP["wire"]),
    ]
    frame.cards(figures)
    if summary.withheld:
        st.caption(f"Withheld: {summary.withheld} diagnoses of fewer than {summary.smallest} test scans.")


def learned(summary: Summary) -> pd.DataFrame:
    """A row for every diagnosis in the order of learning."""
    rows = []
    for number, task in enumerate(summary.tasks):
        for row in summary.classes:
            if row.number in task.classes:
                done = number < summary.evaluated
                rows.append(
                    {
                        "Group": f"{number + 1} · {task.name}",
                        "Diagnosis": row.name,
                        "State": "learned" if done else "to learn",
                        "Test scans": row.scans if done else None,
                        "When first learned": None if isnan(row.first) else 100 * row.first,
                        "Now": None if isnan(row.now) else 100 * row.now,
                    }
                )
    return pd.DataFrame(rows)


def comparison(summaries: list[Summary]) -> pd.DataFrame:
    """Figures down, experiments across."""
    figures = {
        "Method": [s.method for s in summaries],
        "Scans": [f"synthetic phantom: {s.data}" if s.synthetic else s.data for s in summaries],
        "Diagnoses": [str(len(s.classes)) for s in summaries],
        "Status": [frame.STATUS.get(s.status, s.status) for s in summaries],
        "Groups learned": [f"{s.evaluated} of {len(s.tasks)}" for s in summaries],
        "Accuracy now": [percent(s.last_accuracy) for s in summaries],
        "Average accuracy": [percent(s.average_accuracy) for s in summaries],
        "Forgetting": [in_points(s.forgetting) for s in summaries],
        "Diagnoses withheld": [str(s.withheld) for s in summaries],
        "Weakest diagnosis": [percent(s.fairness.worst_accuracy if s.fairness else None) for s in summaries],
        "ε spent": ["-" if s.epsilon is None else f"{s.epsilon:.2f}" for s in summaries],
        "Kept on disk": [frame.kept(s) for s in summaries],
        "Sent over the network": [size(s.bytes_on_wire) for s in summaries],
        "Time": [duration(s.seconds) for s in summaries],
    }
    return pd.DataFrame(figures, index=[s.name for s in summaries]).T.rename_axis("Figure")


def show_standing(name: str) -> None:
    """The step in progress, its hospitals, the last sign of life and the time to go."""
    found = data.standing(name)
    to_go = "unknown until a group is learned" if found.seconds_to_go is None else estimate(found.seconds_to_go)
    told = {
        "Step": found.place or "none yet",
        "In this step for": "-" if found.step_seconds is None else duration(found.step_seconds),
        "Hospitals in the last step done": f"{len(found.present)} of {found.hospitals}",
        "Last sign of life": f"{duration(found.silent_seconds)} ago",
        "Process": found.process or "-",
        "Time to go": "none" if found.status == "finished" else to_go,
    }
    frame.table(pd.DataFrame({"": told.values()}, index=pd.Index(told, name="Standing")))


frame.begin("Runs", "How runs stand, what the hospitals learned together in them, and how they compare.")
record = frame.chosen()
summary = record.summary

st.markdown(
    f"**Method:** {METHODS.get(summary.method, frame.plain(summary.method))}  \n"
    f"**Scans:** {frame.plain(summary.data)}  \n"
    f"**Status:** {frame.STATUS.get(summary.status, summary.status)}, begun {frame.when(summary.started)}, "
    f"last recorded {frame.when(summary.updated)}  \n"
    + ("" if summary.epsilon is None else f"**Differential privacy:** ε = {summary.epsilon:.2f} spent at most  \n")
    + f"**Hospitals:** {frame.plain(', '.join(summary.hospitals)) or 'none has reported yet'}"
)
show_standing(summary.name)
headline(summary)

st.subheader("What was learned")
frame.figures(
    learned(summary),
    **{
        "When first learned": st.column_config.NumberColumn(
            format="%.1f %%", help="Accuracy right after its group was learned"
        ),
        "Now": st.column_config.ProgressColumn(
            format="%.1f %%", min_value=0, max_value=100, help="Accuracy after the latest group"
        ),
    },
)

summaries = [r.summary for r in frame.compared(record)]
if len(summaries) > 1:
    st.subheader("Comparison")
    st.markdown("The experiments chosen in the sidebar, side by side.")
    if len({(s.data, tuple(c.key for c in s.classes)) for s in summaries}) > 1:
        st.warning(
            "These experiments learned other diagnoses or were tested on other scans: their accuracies cannot be "
            "compared. The sidebar chooses which stand here."
        )
    frame.table(comparison(summaries), csv="comparison")
    points = pd.DataFrame(
        [
            {"Groups learned": str(number + 1), "Accuracy": value, "Experiment": s.name}
            for s in summaries
            for number, value in enumerate(s.after_each)
        ]
    )
    if len(points):
        st.altair_chart(
            charts.curves(
                points.sort_values("Groups learned", key=lambda c: c.astype(int), kind="stable"),
                "Groups learned",
                "Accuracy",
                "Experiment",
                [s.name for s in summaries],
                "Groups of diseases learned",
                "Accuracy on all known diagnoses",
            ),
            width="stretch",
        )

with st.expander("Settings and software versions"):
    left, right = st.columns([2, 1])
    left.json(record.experiment.config, expanded=1)
    with right:
        frame.table(pd.DataFrame({"Version": record.experiment.versions}).rename_axis("Package"))
    right.caption(f"Machine of the server: {record.experiment.machine}")
