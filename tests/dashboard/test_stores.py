"""Pages over stores that are missing, damaged, locked, empty or of another version."""

import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

from braincl_med.records.database import STORE_NAME
from braincl_med.records.store import RunStore
from tests.dashboard.conftest import OpenPage
from tests.dashboard.reading import words
from tests.dashboard.test_pages import FIGURES, PAGES
from tests.records.example_store import build_example


def test_a_missing_store_is_one_sentence(open_page: OpenPage) -> None:
    for page, title in PAGES.items():
        app = open_page(page)
        assert not app.exception, page
        assert [t.value for t in app.title] == [title]
        assert len(app.info) == 1
        assert "run an experiment first" in app.info[0].value


def test_a_damaged_store_is_one_sentence(open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / STORE_NAME).write_bytes(b"nonsense" * 400)
    for page in PAGES:
        app = open_page(page)
        assert not app.exception, page
        assert len(app.error) == 1, "in red"
        assert STORE_NAME in words(app)
        assert str(tmp_path) not in words(app)


def test_a_locked_store_is_said_to_be_so_at_once(open_page: OpenPage, tmp_path: Path) -> None:
    build_example(tmp_path)
    open_page("ready")
    with sqlite3.connect(tmp_path / STORE_NAME, isolation_level=None) as held:
        held.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        app = open_page("ready")
        assert time.monotonic() - begun < 4, "of which half a second is waited, twice"
        assert not app.exception
        assert "is locked by another program" in app.error[0].value.replace("\\", "")


def test_a_store_that_is_locked_between_two_reads_of_a_page(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_example(tmp_path)
    open_page("ready")
    with sqlite3.connect(tmp_path / STORE_NAME, isolation_level=None, check_same_thread=False) as held:
        monkeypatch.setattr("apps.dashboard.frame._announce", lambda record: held.execute("BEGIN EXCLUSIVE"))
        begun = time.monotonic()
        app = open_page("privacy")
        assert time.monotonic() - begun < 4, "of which half a second is waited"
    assert not app.exception
    assert "is locked by another program" in app.error[-1].value.replace("\\", "")


def test_an_empty_store(open_page: OpenPage, tmp_path: Path) -> None:
    RunStore(tmp_path, create=True)
    for page in PAGES:
        app = open_page(page)
        assert not app.exception, page
        assert "holds no experiment yet" in app.info[0].value


def test_records_of_another_version_are_said_to_be_so(open_page: OpenPage, tmp_path: Path) -> None:
    """Other bins of a score, and tasks that this program cannot read."""
    store = build_example(tmp_path)
    store.record_evaluation("no-memory", 2, "site-0", np.eye(6, dtype=int), {}, {})
    for hospital in ("site-0", "site-1", "site-2"):
        bins = {"energy": {"known-correct": [1, 2, 3], "unknown-far": [4, 0, 0]}}
        store.record_evaluation("no-memory", 2, hospital, np.eye(6, dtype=int), bins, {})
    app = open_page("unknown", "no-memory")
    app.main.selectbox[0].set_value(2).run()
    assert not app.exception
    assert "recorded this score, over other bins" in words(app)
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE experiment SET registry='{}' WHERE name='memories'")
    app = open_page("runs", "no-memory")
    assert not app.exception
    assert "Left out of the comparison: the record of 'memories' is damaged" in words(app)
    for page in FIGURES:
        app = open_page(page, "memories")
        assert not app.exception, page
        assert "another version of this program wrote it" in words(app)
