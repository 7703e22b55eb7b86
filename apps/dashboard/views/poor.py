"""Poor images: what is left of the accuracy under noise, blur, compression and the like."""

import pandas as pd
import streamlit as st

from apps.dashboard import charts, data, frame
from braincl_med.records.examined import Examined


def table(found: Examined) -> pd.DataFrame:
    """A row for every condition and strength."""
    return pd.DataFrame(
        {
            "Condition": [one.condition for one in found.conditions],
            "Strength": [one.strength for one in found.conditions],
            "Test scans": [one.scans for one in found.conditions],
            "As they are, %": [100 * one.clean for one in found.conditions],
            "So, %": [100 * one.accuracy for one in found.conditions],
            "from": [100 * one.interval[0] for one in found.conditions],
            "to": [100 * one.interval[1] for one in found.conditions],
            "Of it is left, %": [100 * one.relative for one in found.conditions],
        }
    )


frame.begin("Poor images", "What is left of the accuracy when scans are noisy, blurred, dark or compressed.")
record = frame.chosen()
found = data.examined(record.summary.name)
if found is None or not found.conditions:
    frame.sentence("This was not measured.", f"`braincl evaluate {frame.plain(record.summary.name)}` measures it.")
st.markdown(
    f"Over all conditions and strengths **{100 * found.robustness:.0f} %** of the accuracy is left. Each condition "
    "is tried on the scans that it can befall, in five strengths; programs draw them, they are no machine's faults."
)
cells = pd.DataFrame(
    {
        "Condition": [one.condition for one in found.conditions],
        "Strength": [str(one.strength) for one in found.conditions],
        "left": [one.relative for one in found.conditions],
        "text": [f"{100 * one.relative:.0f}" for one in found.conditions],
    }
)
st.altair_chart(
    charts.heatmap(
        cells, "Strength", "Condition", "left", "text", "Strength; percent of the accuracy that is left", None
    ),
    width="stretch",
)
frame.figures(table(found))
