"""The first page: a verdict by the hospital's limits and no others, and what must be said above it."""

import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from apps.cli.main import app as cli
from apps.dashboard.launch import ENTRY
from apps.dashboard.limits import limits_of, read_limits
from braincl_med.foundation.errors import ConfigError
from braincl_med.records.store import RunStore
from tests.dashboard.conftest import OpenPage
from tests.dashboard.reading import words
from tests.records.example_store import build_example


def test_without_limits_there_is_no_verdict_and_all_is_said_to_be_not_judged(
    open_page: OpenPage, tmp_path: Path
) -> None:
    build_example(tmp_path)
    app = open_page("ready", "memories")
    assert not app.exception
    said = words(app)
    assert "Research software, not a medical device" in said
    assert "Drawn phantoms, not patients" in said
    assert "No verdict: no limits are set" in said
    assert "Not judged" in said
    assert not app.success
    assert set(app.dataframe[0].value["Limits"]) == {"-"}


def test_limits_in_the_address_are_judged_by_and_the_weakest_stands_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_example(tmp_path)
    monkeypatch.setenv("BRAINCL_STATE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(ENTRY)])
    app = AppTest.from_file(str(ENTRY), default_timeout=60)
    app.query_params["experiment"], app.query_params["sensitivity"] = "no-memory", "80"
    app.run()
    assert not app.exception
    assert "Not ready: " in words(app)
    assert len(app.error) == 1
    table = app.dataframe[0].value
    assert list(table["Found, %"]) == sorted(table["Found, %"])
    assert table["Limits"][0] == "fails"
    assert table["Found, %"].dtype.kind == "f", "numbers sort as numbers"
    app.number_input(key="limit-sensitivity").set_value(1).run()
    assert [*app.query_params["sensitivity"]] == ["1"]
    assert "no-memory" in app.query_params["experiment"]
    assert any("Within the limits" in said.value for said in app.success)


def test_the_hospitals_file_decides_and_is_shown(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_example(tmp_path)
    (tmp_path / "limits.yaml").write_text("sensitivity: 1\nscans: 5\n")
    monkeypatch.setattr(
        sys, "argv", [str(ENTRY), "--state", str(tmp_path), "--limits", str(tmp_path / "limits.yaml")]
    )
    app = open_page("ready", "memories")
    assert not app.exception
    assert "how many of its scans are found: 1 %" in words(app)
    assert not [each for each in app.number_input if each.key and each.key.startswith("limit-")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("recall: 80", "asks for 'recall', which is no limit"),
        ("sensitivity: much", "expected a number"),
        ("sensitivity: 180", "outside its range"),
        ("scans: 2.5", "outside its range"),
        ("- 1", "limits.yaml"),
    ],
)
def test_a_file_with_something_else_is_refused_before_anything_starts(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "limits.yaml").write_text(text)
    with pytest.raises(ConfigError, match=reason):
        read_limits(tmp_path / "limits.yaml")
    done = CliRunner().invoke(cli, ["dashboard", "--state", str(tmp_path), "--limits", str(tmp_path / "limits.yaml")])
    assert done.exit_code == 1


def test_limits_are_percent() -> None:
    assert limits_of({"sensitivity": 80, "scans": "50"}, "here").asked == {"sensitivity": 0.8, "scans": 50}


def test_a_diagnosis_is_told_with_its_counts_and_what_it_is_taken_for(open_page: OpenPage, tmp_path: Path) -> None:
    counts = RunStore(build_example(tmp_path).path.parent).tally("no-memory").confusion
    app = open_page("diagnosis", "no-memory")
    assert not app.exception
    weakest = int((counts.diagonal() / counts.sum(1)).argmin())
    assert app.main.selectbox[0].value == weakest
    found = app.table[0].value.loc["Found", "Counted"].replace("\\", "")
    assert found.startswith(f"{counts[weakest, weakest]} of {counts[weakest].sum()} (")
    taken = app.dataframe[0].value
    assert taken["Test scans"].sum() == counts[weakest].sum() - counts[weakest, weakest]
    assert list(taken["Test scans"]) == sorted(taken["Test scans"], reverse=True)
