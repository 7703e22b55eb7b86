"""What `braincl evaluate` measured, on the pages that show it."""

from pathlib import Path

import pytest

from braincl_med.evaluation.examination import Examination, Rough
from braincl_med.records.examined import examined
from tests.dashboard.conftest import OpenPage
from tests.dashboard.reading import words
from tests.evaluation.test_examination import told
from tests.records.example_store import build_example


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    store = build_example(tmp_path)
    rough = Rough(scans=[4, 4, 4], clean=[4, 4, 2], right=[[4, 4, 2], [4, 3, 2], [3, 3, 2], [2, 2, 1], [1, 0, 0]])
    both: dict[str, Examination] = {
        hospital: told(seed).model_copy(update={"conditions": {"jpeg": rough, "noise": rough}})
        for seed, hospital in enumerate(("site-0", "site-1"))
    }
    store.record_examination("memories", 2, both)
    assert examined(store, "memories") is not None
    return tmp_path


def test_calibration_referral_and_unknown_scans(measured: Path, open_page: OpenPage) -> None:
    app = open_page("sure", "memories")
    assert not app.exception
    said = words(app)
    assert "Measured after group 3" in said
    assert "Over 24 test scans its confidence is off by" in said
    assert "If it refers " in said
    assert "Thresholds come from 60 validation scans" in said
    aside = app.dataframe[1].value
    assert list(aside["Scans"]) == ["right answers"]
    assert list(aside["Set aside"]) == [6]
    assert list(aside["by confidence"]) == [4]


def test_poor_images(measured: Path, open_page: OpenPage) -> None:
    app = open_page("poor", "memories")
    assert not app.exception
    table = app.dataframe[0].value
    assert len(table) == 10
    assert list(table["Of it is left, %"][:5]) == pytest.approx([100, 90, 80, 50, 10])
    assert "**66 %** of the accuracy is left" in words(app)


def test_what_was_not_measured_is_said_with_the_command(measured: Path, open_page: OpenPage) -> None:
    for page in ("sure", "poor"):
        app = open_page(page, "no-memory")
        assert not app.exception
        assert "was not measured" in words(app)
        assert "braincl evaluate no-memory" in words(app)
