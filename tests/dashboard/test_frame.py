from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

ROWS = pd.DataFrame({"Hospital": ["=1+1", "ward"], "+Change": [-1.5, 2.0]})


def shown(draw: Callable[..., Any]) -> pd.DataFrame:
    app = AppTest.from_function(draw, kwargs={"rows": ROWS}).run()
    assert not app.exception
    return app.dataframe[0].value


def test_a_table_that_the_browser_writes_as_csv_holds_no_formula() -> None:
    def draw(rows):  # Streamlit runs its text, by itself
        from apps.dashboard import frame

        frame.figures(rows)

    found = shown(draw)
    assert list(found.columns) == ["Hospital", "'+Change"]
    assert found.to_numpy().tolist() == [["'=1+1", -1.5], ["ward", 2.0]]


def test_a_table_that_the_page_writes_as_csv_holds_no_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr("streamlit.download_button", lambda label, data, *_, **__: written.append(data))

    def draw(rows):  # Streamlit runs its text, by itself
        from apps.dashboard import frame

        frame.table(rows.set_index("Hospital"), csv="rows")

    AppTest.from_function(draw, kwargs={"rows": ROWS}).run()
    assert written == [b"Hospital,'+Change\n'=1+1,-1.5\nward,2.0\n"]
