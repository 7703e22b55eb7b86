"""Whether the network notices scans that show nothing it has learned."""

from math import isnan

import numpy as np
import pandas as pd
import streamlit as st

from apps.dashboard import charts, data, frame
from apps.dashboard.words import SCORES
from braincl_med.evaluation.rejection import EDGES, KNOWN, answering, threshold_at
from braincl_med.records.table import percent

GROUPS = {
    "known-correct": "known, recognised",
    "known-wrong": "known, mistaken",
    "unknown-near": "unknown, near (still to be learned)",
    "unknown-far": "unknown, far (of another modality)",
}
BARS = 30
TICKS = {
    "energy": [float(n) for n in range(-10, 41)],
    "max-softmax": [0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999],
    "familiarity": [-1e4, -1e3, -300.0, -100.0, -50.0, -30.0, -20.0, -10.0, -5.0, -2.0, -1.0, 0.0],
    "certainty": [-1.0, -0.1, -0.01, -0.001, -1e-4, -1e-5, -1e-6, -1e-7, 0.0],
}


def shares(groups: dict[str, np.ndarray], first: int, last: int) -> pd.DataFrame:
    """Each group's histogram as shares of its scans, bins `first` to `last` joined to about `BARS`."""
    width = max(1, round((last - first) / BARS))
    rows = []
    for kind, label in GROUPS.items():
        counts = groups.get(kind)
        if counts is None or not counts.sum():
            continue
        starts = range(first, last, width)
        rows += [(s, counts[s : min(s + width, last)].sum() / counts.sum(), label) for s in starts]
        rows.append((last, 0.0, label))
    return pd.DataFrame(rows, columns=["bin", "share", "group"])


def ticks(score: str, first: int, last: int) -> dict[int, str]:
    """Where the axis is labelled: round values by the bin that begins there."""
    bins = {int(np.argmin(np.abs(EDGES[score] - value))): f"{value:g}" for value in TICKS[score]}
    return {at: label for at, label in bins.items() if first <= at <= last}


def figures(record: data.Record, score: str) -> pd.DataFrame:
    """AUROC and FPR at 95 % after each task."""
    return pd.DataFrame(
        [
            {
                "After learning": record.tasks[row.after_task],
                "AUROC, near": percent(row.auroc_near),
                "AUROC, far": percent(row.auroc_far),
                "Let through at 95 %, near": percent(row.fpr95_near),
                "Let through at 95 %, far": percent(row.fpr95_far),
            }
            for row in record.summary.rejection
            if row.score == score
        ]
    ).set_index("After learning")


frame.begin(
    "Unknown scans",
    "A network answers every scan with a diagnosis it has learned, even if it shows something else. Instead it can "
    "set aside scans that are unlike what a hospital remembers, or of which it is not confident. This page shows how "
    "well each such score tells known from unknown.",
)
record = frame.chosen()
frame.need_evaluation(record)
measured = [task for task, scores in enumerate(record.scores) if scores]
if not measured:
    frame.sentence("This experiment recorded no confidence scores.")

kinds = [kind for kind in SCORES if any(kind in record.scores[task] for task in measured)]
near = [t for t in measured if any(record.scores[t][s].get("unknown-near") is not None for s in record.scores[t])]
left, right = st.columns(2)
task = left.selectbox(
    "After learning",
    measured,
    index=measured.index(near[-1] if near else measured[-1]),
    format_func=lambda number: record.tasks[number],
    key=f"after-{record.summary.name}",
    help="Near unknown scans are those of diagnoses still to be learned. After the last group there are none left.",
)
score = right.selectbox(
    "Score",
    [k for k in kinds if k in record.scores[task]],
    format_func=SCORES.__getitem__,
    help="All are larger for scans that look familiar.",
)
if score is None:
    frame.sentence("No confidence score of this program's kinds was recorded.")
groups, edges = record.scores[task][score], EDGES[score]
if any(len(counts) != len(edges) - 1 for counts in groups.values()):
    frame.sentence("Another version of this program recorded this score, over other bins than this one's.")
known = sum((groups[kind] for kind in KNOWN if kind in groups), np.zeros(len(edges) - 1, np.int64))
total = sum(groups.values())
if not np.sum(total):
    frame.sentence("No scans were scored after this group.")

occupied = np.flatnonzero(total)
first, last = int(occupied[0]), int(occupied[-1]) + 1
threshold = st.select_slider(
    "Answer only scans whose score is at least",
    options=range(first, last + 1),
    value=threshold_at(known) if known.sum() else first,
    format_func=lambda number: f"{edges[number]:.8g}",
    key=f"threshold-{record.summary.name}-{task}-{score}",
    help="At first the highest threshold at which 95 % of known scans are answered.",
)
at = answering(groups, threshold)
everything = answering(groups, 0)
cards = [
    ("Known scans answered", at.answered, "The share of scans of learned diagnoses that reach the threshold."),
    (
        "Right when answered",
        at.accuracy,
        f"Accuracy on the known scans that are answered. Answering all of them: {percent(everything.accuracy)}.",
    ),
    ("Near ones set aside", at.near_rejected, "Scans of diagnoses still to be learned, rightly not answered."),
    ("Far ones set aside", at.far_rejected, "Scans of another modality, rightly not answered."),
]
frame.cards((label, percent(value), about) for label, value, about in cards)
if isnan(at.near_rejected):
    st.caption("No near unknown scans here: every diagnosis of this experiment is learned.")
if isnan(at.far_rejected):
    st.caption("No far unknown scans were tested: the experiment names no other examination to test with.")
st.altair_chart(
    charts.densities(
        shares(groups, first, last),
        threshold,
        ticks(score, first, last),
        "Less familiar ← → more familiar",
    ),
    width="stretch",
)
st.caption("Each curve is one group of scans; scans left of the threshold are set aside.")

settings = record.experiment.config
if (
    score == "familiarity"
    and len(record.summary.hospitals) > 1
    and settings.get("stream", {}).get("share") != "iid"
    and settings.get("sleep", {}).get("classifier") != "discriminant"
):
    st.warning(
        "Hospitals share these diagnoses unevenly, and each measures likeness to the classes that it holds "
        "itself: a diagnosis it holds few scans of looks unknown to it. The figures are of all hospitals together "
        "and may be far off for one of them."
    )

st.subheader("How well known and unknown are told apart")
st.markdown(
    "- **AUROC** is the chance that a known scan gets a higher score than an unknown one: 100 % is perfect, "
    "50 % is guessing.\n"
    "- **Let through at 95 %** (FPR@95) is the share of unknown scans that are still answered when 95 % of the known "
    "scans are: 0 % is perfect."
)
frame.table(figures(record, score), csv="unknown-scans")
