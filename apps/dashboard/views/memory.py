"""What hospitals keep on disk and send over the network."""

import pandas as pd
import streamlit as st

from apps.dashboard import charts, data, frame
from apps.dashboard.words import ITEMS, PHASES
from braincl_med.records.table import duration, size, unit_of


def at_rest(record: data.Record) -> pd.DataFrame:
    """Bytes by step, hospital and item, in this order; samples are not bytes and left out."""
    known = list(ITEMS)
    stored = sorted(
        (row for row in record.storage if row[2] != "records" and row[0] < len(record.tasks)),
        key=lambda row: (row[0], row[1], known.index(row[2]) if row[2] in known else len(known)),
    )
    return pd.DataFrame(
        [
            {"After": record.tasks[task], "Hospital": hospital, "Part": ITEMS.get(item, item), "Bytes": amount}
            for task, hospital, item, amount in stored
        ],
        columns=["After", "Hospital", "Part", "Bytes"],
    )


def last_told(rows: pd.DataFrame) -> pd.DataFrame:
    """What each hospital told last; one that missed the latest evaluation keeps that still, and is marked so."""
    told = rows.groupby("Hospital")["After"].transform("last")
    latest = rows[rows["After"] == told].sort_values("Hospital", kind="stable")
    stale = latest["After"] != rows["After"].iloc[-1]
    latest.loc[stale, "Hospital"] += " (told after " + latest.loc[stale, "After"] + ")"
    return latest


def after_each(rows: pd.DataFrame) -> pd.DataFrame:
    """What hospitals keep after each step; one that missed an evaluation keeps what it told before."""
    told: dict[object, pd.DataFrame] = {}
    steps = []
    for step, then in rows.groupby("After", sort=False):
        told |= dict(iter(then.groupby("Hospital", sort=False)))
        steps.append(pd.concat(told.values()).assign(After=step))
    return pd.concat(steps)


def bars(rows: pd.DataFrame, name: str, what: str, height: int = 46) -> None:
    """A chart of the bytes of each value of column `name`, in the unit that its longest bar has."""
    summed = rows.groupby([name, "Part"], sort=False)["Bytes"].sum().reset_index()
    unit, of = unit_of(summed.groupby(name)["Bytes"].sum().max())
    summed["Amount"] = summed["Bytes"] / of
    summed["text"] = summed["Bytes"].map(size)
    chart = charts.stacked_bars(summed, name, "Amount", "Part", f"{unit} {what}", "text", height)
    st.altair_chart(chart, width="stretch")


frame.begin(
    "Memory and network",
    "What hospitals keep on disk of former diagnoses, what is sent over the network, and how long it takes.",
)
record = frame.chosen()
summary = record.summary
pixels = int(record.experiment.config.get("stream", {}).get("size", 0))

cards = [
    ("Kept on disk", frame.kept(summary), "All hospitals together, after the latest group of diseases."),
    (
        "Per kept sample",
        size(summary.bytes_per_sample),
        "With BrainCL a coded scan with its share of networks and tables."
        f" A raw grey scan of {pixels} × {pixels} pixels takes {size(pixels**2)}, in colour three times that.",
    ),
    ("Sent over the network", size(summary.bytes_on_wire), "Network weights and messages to and from all hospitals."),
    ("Time", duration(summary.seconds), "Of all exchanges with the hospitals, their training included."),
]
frame.cards(cards)
if summary.keeps_raw_scans:
    st.warning(
        "This method keeps every raw scan of former groups and trains on it. Those bytes are not counted here."
    )

st.subheader("On disk")
rows = at_rest(record)
if rows["Bytes"].sum():
    st.markdown(f"{summary.records or 0:,} samples are kept after the latest group that was tested.")
    if (begun := data.standing(summary.name).number) > summary.evaluated:
        st.caption(
            f"Group {begun} was begun and is not tested yet: what hospitals hold of it already is counted once it is."
        )
    by_hospital, by_step, numbers = st.tabs(["By hospital", "After each group", "Numbers"])
    latest = last_told(rows)
    with by_hospital:
        bars(latest, "Hospital", "on disk")
    with by_step:
        bars(after_each(rows), "After", "on disk")
    with numbers:
        wide = latest.pivot_table(index="Part", columns="Hospital", values="Bytes", aggfunc="sum", sort=False)
        wide["all"] = wide.sum(axis=1)
        wide.loc["all"] = wide.sum(axis=0)
        frame.table(wide.map(lambda n: "-" if pd.isna(n) else size(n)), csv="on-disk")
elif summary.keeps_raw_scans:
    st.markdown("Hospitals keep all raw scans, which are not counted.")
elif summary.evaluated:
    st.markdown("This method keeps nothing of former diagnoses: 0 bytes on disk.")
else:
    st.markdown("Counted once the first group of diseases is learned.")

st.subheader("Over the network, and time")
if summary.phases:
    wire = pd.DataFrame(
        [
            {"Phase": PHASES.get(p.phase, p.phase), "Part": part, "Bytes": amount}
            for p in summary.phases
            for part, amount in (("to hospitals", p.bytes_down), ("from hospitals", p.bytes_up))
        ]
    )
    bars(wire, "Phase", "sent", 38)
    frame.table(
        pd.DataFrame(
            [
                {
                    "Phase": PHASES.get(p.phase, p.phase),
                    "Exchanges": str(p.steps),
                    "To hospitals": size(p.bytes_down),
                    "From hospitals": size(p.bytes_up),
                    "Time": duration(p.seconds),
                }
                for p in summary.phases
            ]
        ).set_index("Phase"),
        csv="phases",
    )
else:
    st.markdown("No exchange with the hospitals is recorded yet.")
