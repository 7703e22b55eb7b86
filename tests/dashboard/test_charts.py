"""Charts of many classes: labels that do not overlap, and mistakes that can be seen."""

import altair as alt
import numpy as np
import pandas as pd
import pytest

from apps.dashboard import charts


def confusion(classes: int, mistaken: float) -> pd.DataFrame:
    """Each class is taken for the next one in so many of its scans."""
    shares = np.eye(classes) * (1 - mistaken) + np.roll(np.eye(classes), 1, axis=1) * mistaken
    return pd.DataFrame(
        [
            {"Answered": str(p), "Shown": str(t), "right": t == p, "share": shares[t, p], "text": ""}
            for t in range(classes)
            for p in range(classes)
        ]
    )


@pytest.mark.parametrize(("classes", "shown"), [(10, 10), (20, 20), (40, 40), (100, 34)])
def test_every_kth_label_is_shown_of_more_than_fit(classes: int, shown: int) -> None:
    names = [f"{number + 1} · group" for number in range(classes)]
    points = pd.DataFrame({"After": names, "Found": 0.5, "Curve": "all"})
    drawn = charts.curves(points, "After", "Found", "Curve", ["all"], "After", "Found").to_dict()
    labels = drawn["layer"][0]["encoding"]["x"]["axis"]["values"]
    assert (len(labels), labels[0]) == (shown, names[0])
    with alt.data_transformers.enable("default", max_rows=None):  # as Streamlit draws it
        cells = charts.heatmap(confusion(classes, 0.1), "Answered", "Shown", "share", "text", "a", None).to_dict()
    assert len(cells["layer"][0]["encoding"]["x"]["axis"]["values"]) == shown


def test_mistakes_among_many_classes_have_colours_up_to_the_largest_of_them() -> None:
    drawn = charts.heatmap(confusion(40, 0.05), "Answered", "Shown", "share", "text", "a", None, "right").to_dict()
    found, missed = drawn["layer"]
    assert found["encoding"]["color"]["scale"]["domain"] == [0, 1]
    assert missed["encoding"]["color"]["scale"]["domain"] == [0, pytest.approx(0.05)]
    assert drawn["resolve"] == {"scale": {"color": "independent"}}
    few = charts.heatmap(confusion(8, 0.05), "Answered", "Shown", "share", "text", "a", None, "right").to_dict()
    assert [layer["mark"]["type"] for layer in few["layer"]] == ["rect", "text"]
    right = charts.heatmap(confusion(40, 0.0), "Answered", "Shown", "share", "text", "a", None, "right").to_dict()
    assert right["layer"][1]["encoding"]["color"]["scale"]["domain"] == [0, 1.0], "nothing is mistaken"
