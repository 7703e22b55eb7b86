"""What every page has in common: its title, the experiment chosen in the sidebar, and what must be said first."""

import re
from collections.abc import Iterable
from typing import Any, NoReturn

import pandas as pd
import streamlit as st

from apps.dashboard import data
from braincl_med.foundation.errors import BrainclError, MissingStoreError
from braincl_med.foundation.texts import no_formula
from braincl_med.records.standing import estimate
from braincl_med.records.summary import Summary
from braincl_med.records.table import duration, size

CARD_PIXELS = 204
LOOK_SECONDS = 15.0
"""How often a page asks whether a running experiment has gone on."""
STATUS = {"running": "Running", "finished": "Finished", "failed": "Failed", "stopped": "Stopped"}


def begin(title: str, about: str) -> None:
    """Put the page's title and one sentence on what it answers."""
    st.title(title)
    st.markdown(about)


def sidebar() -> None:
    """Let the reader choose the experiment shown and those beside it."""
    try:
        found = data.names()
    except BrainclError:
        return  # the page itself says what is wrong
    # A link names the experiment that its page shows.
    linked = st.query_params.get("experiment")
    if "experiment" not in st.session_state and linked in found:
        st.session_state["experiment"] = linked
    with st.sidebar:
        if found:
            st.selectbox("Experiment", found, key="experiment", help="All pages show this experiment. Latest first.")
            if unfinished := [line for line in map(_unfinished, found) if line]:
                st.caption("  \n".join(unfinished))
            st.multiselect(
                "Compared on the Runs page",
                found,
                default=found[:4],
                key="compared",
                placeholder="No other experiment",
                help="These stand beside the experiment above in the comparison.",
            )
        st.button(
            "Read again",
            help="Show what a running experiment has recorded meanwhile.",
            width="stretch",
            icon=":material/refresh:",
        )


def _unfinished(name: str) -> str:
    """An experiment's name and how it stands; empty for a finished one, and where that cannot be read."""
    try:
        standing = data.standing(name)
    except BrainclError:
        return ""
    sign = f"last sign of life {duration(standing.silent_seconds)} ago"
    return "" if standing.status == "finished" else f"{plain(name)}: {STATUS[standing.status].lower()}, {sign}"


def chosen() -> data.Record:
    """The experiment to show, with its name as heading; ends the page with one sentence when there is none."""
    found = names()
    if not found:
        sentence("The run store holds no experiment yet.", "`braincl run demo` runs the packaged example.")
    name = st.session_state.get("experiment")
    shown = name if name in found else found[0]
    st.query_params["experiment"] = shown
    try:
        record = data.record(shown)
    except BrainclError as error:
        unreadable(error)
    st.subheader(plain(record.summary.name))
    _announce(record)
    return record


def compared(record: data.Record) -> list[data.Record]:
    """`record` first, then the others chosen to stand beside it; one that cannot be read is left out and named."""
    found, records = names(), [record]
    for name in st.session_state.get("compared", []):
        if name in found and name != record.summary.name:
            try:
                records.append(data.record(name))
            except BrainclError as error:
                st.warning(f"Left out of the comparison: {plain(str(error))}.")
    return records


def need_evaluation(record: data.Record) -> None:
    """End the page with one sentence when no disease has been learned and tested yet."""
    if not record.summary.evaluated:
        sentence(
            "Nothing has been tested yet.",
            "Figures appear here once the first group of diseases is learned and its test scans are counted.",
        )


def sentence(what: str, then: str = "") -> NoReturn:
    """Say why there is nothing to show, and end the page."""
    st.info(f"{what} {then}".strip(), icon=":material/info:")
    st.stop()


def plain(text: str) -> str:
    """Text that a run store holds, so that Markdown shows it as it is.

    Hospitals write some of it (names, reasons, names of files): unescaped, an image's address in it would be fetched.
    """
    return re.sub(r"([!#$&()*+\-.:;<=>?@\[\\\]^_`{|}~])", r"\\\1", " ".join(text.split()))


def cards(figures: Iterable[tuple[str, str, str]]) -> None:
    """Figures beside each other, as (label, value, help); they wrap where the window is narrow."""
    with st.container(horizontal=True):
        for label, value, help_text in figures:
            st.metric(label, value, help=help_text, border=True, width=CARD_PIXELS)


def kept(summary: Summary) -> str:
    """What all hospitals together keep on disk."""
    return "all raw scans" if summary.keeps_raw_scans else size(summary.bytes_at_rest)


def table(rows: pd.DataFrame, csv: str = "") -> None:
    """A short table that shows every word, its cells as they are; `csv` names the file to take it along as."""
    st.table(rows.map(lambda cell: plain(str(cell))).rename(index=plain, columns=plain))
    if csv:
        file = no_formulas(rows).to_csv().encode()
        st.download_button("CSV", file, f"{csv}.csv", "text/csv", icon=":material/download:")


def no_formulas(rows: pd.DataFrame) -> pd.DataFrame:
    """A table as it may become a CSV file: hospitals write some of its texts."""
    return rows.map(no_formula).rename(index=no_formula, columns=no_formula)


def figures(rows: pd.DataFrame, **more: Any) -> None:
    """A table whose numbers sort as numbers, and which a reader may take along as CSV; shares have one digit.

    Args:
        rows: what it shows.
        more: how a column is shown, by its name.
    """
    rows = no_formulas(rows)  # the browser writes the CSV from what it shows
    shares = [str(name) for name in rows.columns if str(name).endswith(", %") or name in ("from", "to")]
    columns = {name: st.column_config.NumberColumn(format="%.1f") for name in shares}
    st.dataframe(rows, hide_index=True, width="stretch", column_config={**columns, **more})
    # It is drawn on a canvas as wide as the window: a sheet has a table of its own, and app.py shows either.
    printed = rows.to_html(index=False, border=0, na_rep="-", float_format=lambda n: f"{n:.1f}".removesuffix(".0"))
    st.html(f'<div class="printed">{printed}</div>')


def names() -> list[str]:
    """The experiments in the store; ends the page with one sentence when it cannot be read."""
    try:
        return data.names()
    except BrainclError as error:
        unreadable(error)


def unreadable(error: BrainclError) -> NoReturn:
    """Say in one sentence why the store cannot be shown, and end the page."""
    text = str(error)
    what = f"{text[:1].upper()}{text[1:]}."
    if isinstance(error, MissingStoreError):
        sentence(what, "The dashboard reads the folder given by `--state`, or by the variable `BRAINCL_STATE`.")
    st.error(plain(what), icon=":material/error:")
    st.stop()


def _announce(record: data.Record) -> None:
    """What nobody may overlook: made-up scans, a run that stopped, a run that goes on."""
    summary = record.summary
    if summary.synthetic:
        st.warning(
            "**Synthetic phantom scans, not medical data.** These scans were drawn by a program. The figures show "
            "that the system works; they say nothing about patients or diagnoses.",
            icon=":material/science:",
        )
    done = f"{summary.evaluated} of {len(summary.tasks)} groups of diseases are learned and tested"
    if summary.status in ("failed", "stopped"):
        reason = plain(summary.message) or "No reason was recorded"
        st.error(
            f"**'{plain(summary.name)}' stopped before its end.** {reason}. {done}.",
            icon=":material/error:",
        )
    elif summary.status == "running":
        _follow(summary.name, data.stamp(summary.name))
        standing = data.standing(summary.name)
        step = f" In {plain(standing.place)}." if standing.place else ""
        known = standing.seconds_to_go
        to_go = "unknown until a group is learned" if known is None else estimate(known)
        st.info(
            f"**'{plain(summary.name)}' is running:** {done}.{step} Last sign of life "
            f"{duration(standing.silent_seconds)} ago. Time to go: {to_go}.",
            icon=":material/hourglass_top:",
        )


@st.fragment(run_every=LOOK_SECONDS)
def _follow(name: str, seen: tuple[int | str, ...]) -> None:
    """Draw the page anew once a running experiment has recorded something."""
    try:
        now = data.stamp(name)
    except BrainclError:
        return  # the page says so when it is drawn anew
    if now != seen:
        st.rerun()


def when(stamp: str) -> str:
    """A stored time as a person reads it."""
    return f"{stamp[:10]} {stamp[11:16]} UTC"
