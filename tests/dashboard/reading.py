"""What a page says, as tests read it."""

import json

import pandas as pd
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.testing.v1 import AppTest


def metrics(app: AppTest) -> dict[str, str]:
    return {m.label: m.value for m in app.metric}


def words(app: AppTest) -> str:
    """All that the page says in sentences."""
    kinds = (app.markdown, app.info, app.warning, app.error, app.success, app.caption)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


def bar_charts(app: AppTest) -> list[tuple[str, pd.DataFrame]]:
    """The title of the horizontal axis and the data of each chart of bars."""
    found = []
    for element in app.get("vega_lite_chart") or app.get("arrow_vega_lite_chart"):
        spec = json.loads(element.proto.spec)
        data = [convert_arrow_bytes_to_pandas_df(one.data.data) for one in element.proto.datasets]
        layers = spec.get("layer", [])
        if layers and layers[0]["mark"]["type"] == "bar":
            found.append((layers[0]["encoding"]["x"]["title"], data[0]))
    return found
