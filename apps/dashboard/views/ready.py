"""May one rely on it? A verdict by limits that the hospital sets, the weakest diagnosis first."""

from math import isnan

import pandas as pd
import streamlit as st

from apps.dashboard import data, frame
from apps.dashboard.limits import KNOWN, SHARES, limits_of
from braincl_med.evaluation.verdict import WORDS, Judged, Limits, Verdict, verdict
from braincl_med.foundation.errors import BrainclError

LABELS = {
    "sensitivity": "Found, at least (%)",
    "precision": "Right when called, at least (%)",
    "false-alarms": "False alarms, at most (%)",
    "fall": "Lost since its best, at most (points)",
    "scans": "Test scans, at least",
}


def entered() -> Limits:
    """The limits of the address, which the reader may change here; a link keeps them."""
    # Another page's address has none of them: they are remembered while the reader looks there.
    held = st.session_state.setdefault("limits", {}) | {n: st.query_params[n] for n in KNOWN if n in st.query_params}
    with st.expander("Limits that you set", expanded=not held):
        st.markdown("None is set for you. What you leave empty is not judged, and said so.")
        columns = st.columns(len(KNOWN))
        for column, name in zip(columns, KNOWN, strict=True):
            said = held.get(name, "")
            value = column.number_input(
                LABELS[name],
                min_value=1 if name == "scans" else 0,
                max_value=100 if name in SHARES else 10**9,
                value=int(said) if said.isdecimal() and int(said) <= (100 if name in SHARES else 10**9) else None,
                placeholder="not judged",
                key=f"limit-{name}",
            )
            if value is None:
                st.query_params.pop(name, None)
            else:
                st.query_params[name] = str(value)
    st.session_state["limits"] = {name: st.query_params[name] for name in KNOWN if name in st.query_params}
    return limits_of(st.session_state["limits"], "the address")


def asked() -> Limits:
    """The limits of the file that the dashboard was started with, else those that the reader enters."""
    try:
        given = data.limits()
        if given is None:
            return entered()
    except BrainclError as error:
        frame.unreadable(error)
    told = ", ".join(
        f"{WORDS[name]}: {100 * limit:.3g} %" if name != "scans" else f"{WORDS[name]}: {limit:g}"
        for name, limit in given.asked.items()
    )
    st.caption(f"Limits of this hospital's file: {told or 'none'}.")
    return given


def show(found: Verdict) -> None:
    """The verdict's sentence in its colour, and what it does not speak of."""
    say = st.info if found.ready is None else st.success if found.ready else st.error
    say(f"**{frame.plain(found.sentence)}**")
    if found.not_judged:
        st.caption(f"Not judged, for no limit is set: {'; '.join(found.not_judged)}.")


def state(one: Judged) -> str:
    """How a diagnosis stands against the limits, in a word."""
    if one.failed:
        return "fails"
    return "by chance?" if one.doubtful else "met"


def table(record: data.Record, found: Verdict) -> pd.DataFrame:
    """A row for every diagnosis, the weakest first; numbers stay numbers, so that they sort as such."""

    def share(value: float) -> float | None:
        return None if isnan(value) else 100 * value

    told = []
    names = record.names
    for row, one in zip(record.diagnoses, found.judged, strict=True):
        low, high = row.found.interval
        told.append(
            {
                "Diagnosis": names[row.number],
                "Limits": "-" if found.ready is None else state(one),
                "Found, %": share(row.found.value),
                "from": share(low),
                "to": share(high),
                "Test scans": None if row.found.withheld else row.found.whole,
                "Right when called, %": share(row.right.value),
                "False alarms, %": share(row.false_alarms.value),
                "At first, %": share(row.first),
                "Most taken for": names[row.taken_for[0][0]] if row.taken_for else "-",
            }
        )
    return pd.DataFrame(told)


frame.begin("Can I use it?", "What the shared network finds now, judged by limits that this hospital sets.")
record = frame.chosen()
frame.need_evaluation(record)
summary = record.summary
st.warning(
    "**Research software, not a medical device.** "
    + ("Drawn phantoms, not patients. " if summary.synthetic else "")
    + ("Public pictures of at most some hundred pixels a side. " if "MedMNIST" in summary.data else "")
    + f"Tested on: {frame.plain(summary.data)}."
)
found = verdict(record.diagnoses, record.names, [task.name for task in summary.tasks], asked())
show(found)
frame.figures(table(record, found))
prevalence = st.number_input(
    "Of all patients, so many have the diagnosis (%)",
    min_value=0.01,
    max_value=99.99,
    value=None,
    placeholder="unknown",
    help="How often a diagnosis is right when it is called depends on how many have it: test scans have another mix.",
)
if prevalence is not None:
    shares = [(record.names[row.number], 100 * row.precision_at(prevalence / 100)) for row in record.diagnoses]
    frame.figures(pd.DataFrame(shares, columns=["Diagnosis", "Right when called, %"]))
st.markdown(
    "**Not tested here:** scans of other machines and hospitals than those of this run; groups of patients; what "
    "happens when a reader sees the answer. Unknown scans, calibration and poor images stand on pages of their own, "
    "where they were measured."
)
