"""How well the shared network serves each hospital, and who was absent."""

from collections import Counter

import numpy as np
import pandas as pd
import streamlit as st

from apps.dashboard import charts, data, frame
from braincl_med.evaluation.continual import shares_of
from braincl_med.evaluation.diagnosis import Share, share_of
from braincl_med.evaluation.fairness import Fairness
from braincl_med.evaluation.tally import Counts
from braincl_med.records.schema import TOGETHER
from braincl_med.records.table import points

ALL = "all hospitals"
MOST_CURVES = 7


def served(record: data.Record) -> dict[str, tuple[Counts, Counts]]:
    """(T,) recognised and all test scans after each group, by hospital."""
    tally = record.tally
    return {
        name: (tally.correct[:, number].sum(-1), tally.scans[:, number].sum(-1))
        for number, name in enumerate(tally.hospitals)
    }


def table(now: dict[str, Share], record: data.Record, own: str) -> pd.DataFrame:
    """A row a hospital, `own` before all, then the least well served first; numbers stay numbers."""
    absent = Counter(row.hospital for row in record.summary.missing)
    rows = []
    for name, share in sorted(now.items(), key=lambda item: (item[0] != own, np.isnan(item[1].value), item[1].value)):
        low, high = share.interval
        told = share.whole > 0 and not share.withheld
        rows.append(
            {
                "Hospital": name,
                "Recognised, %": 100 * share.value if told else None,
                "from": 100 * low if told else None,
                "to": 100 * high if told else None,
                "Test scans": share.whole if told or not share.whole else None,
                "Steps without a usable answer": absent[name],
            }
        )
    return pd.DataFrame(rows)


def intervals(now: dict[str, Share]) -> pd.DataFrame:
    """What the chart of intervals shows."""
    return pd.DataFrame(
        [
            {
                "name": name,
                "share": share.value,
                "low": share.interval[0],
                "high": share.interval[1],
                "text": f"{share.part} of {share.whole}",
            }
            for name, share in now.items()
            if share.whole and not share.withheld
        ],
        columns=["name", "share", "low", "high", "text"],
    )


def say_chance(fair: Fairness) -> None:
    """What may be concluded from the difference between the best and the worst served hospital."""
    above = fair.hospital_spread > fair.hospital_chance
    st.markdown(
        f"Best minus worst hospital: **{points(fair.hospital_spread)}**. With so few test scans chance alone sets "
        f"them apart by up to {points(fair.hospital_chance)} (95 of 100 cases), though all use the same network: "
        + ("this is more than chance explains." if above else "no sign of unequal treatment.")
    )


def show_history(counted: dict[str, tuple[Counts, Counts]], record: data.Record) -> None:
    """A curve for each hospital; of many those alone that are served least."""
    shares = {
        name: shares_of(right, np.where(scans >= record.smallest, scans, 0))
        for name, (right, scans) in counted.items()
    }
    least = sorted(shares, key=lambda name: (np.isnan(shares[name][-1]), shares[name][-1]))[:MOST_CURVES]
    kept = [name for name in shares if name in least]
    values = {**{name: shares[name] for name in kept}, ALL: np.array(record.summary.after_each)}
    told = pd.DataFrame(
        [
            {"After": record.tasks[step], "Recognised": float(value), "Hospital": name}
            for name, curve in values.items()
            for step, value in enumerate(curve)
            if not np.isnan(value)
        ]
    )
    st.markdown("##### As further diagnoses were added")
    if len(kept) < len(shares):
        st.caption(f"Of {len(shares)} hospitals the {len(kept)} that are served least now.")
    drawing = charts.curves(told, "After", "Recognised", "Hospital", list(values), "After learning", "Recognised")
    st.altair_chart(drawing, width="stretch")


frame.begin(
    "Hospitals",
    "Whether the shared network serves every hospital, by test scans of its own. A bar is the interval that holds "
    "the true share in 95 of 100 cases (Wilson).",
)
record = frame.chosen()
frame.need_evaluation(record)
summary, own = record.summary, data.hospital()
if own and own not in summary.hospitals:
    st.warning(f"No counts of {frame.plain(own)}, whose view this is, are recorded here.")
if summary.hospitals == (TOGETHER,):
    st.info("Hospitals told their sum under masks, so nobody knows what was right at which.")
else:
    counted = served(record)
    now = {
        name: share_of(int(right[-1]), int(scans[-1]), record.smallest) for name, (right, scans) in counted.items()
    }
    rows = intervals(now)
    if len(rows):
        st.altair_chart(
            charts.intervals(rows, "name", "Recognised of the hospital's own test scans"), width="stretch"
        )
    if len(rows) > 1 and summary.fairness and not own:
        say_chance(summary.fairness)
    elif len(rows) == 1:
        st.info("One hospital counted test scans: there is nothing to compare it with.")
    frame.figures(table(now, record, own))
    st.caption("Empty figures: no test scans after the latest group, or so few that they are withheld.")
    if record.summary.evaluated > 1:
        show_history(counted, record)

st.subheader("Absences")
missing = [row for row in summary.missing if not own or row.hospital == own]
if missing:
    st.markdown("These gave no usable answer; the run went on without them.")
    told = [
        {"Group": m.task, "Phase": m.phase, "Round": str(m.round + 1), "Hospital": m.hospital, "Why": m.reason}
        for m in missing
    ]
    frame.table(pd.DataFrame(told).set_index("Group"))
else:
    st.markdown("Every hospital answered every time." if summary.phases else "Nobody has been asked yet.")
