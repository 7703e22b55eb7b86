"""Every page over stores in every state, run by Streamlit's own test harness, and a server over the example store."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from apps.dashboard.launch import ENTRY, command
from braincl_med.records.store import RunStore
from tests.browsing import serving
from tests.records.example_store import build_example

OpenPage = Callable[..., AppTest]


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenPage:
    """Opens a page (`overview`, `accuracy`, …) on the store below `tmp_path`, showing `experiment` if one is named.

    All pages of one test belong to one session, as in a browser.
    """
    monkeypatch.setenv("BRAINCL_STATE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(ENTRY)])

    sessions: list[AppTest] = []

    def opened(page: str, experiment: str | None = None) -> AppTest:
        if not sessions:
            sessions.append(AppTest.from_file(str(ENTRY), default_timeout=60).run())
        app = sessions[0]
        app.switch_page(f"views/{page}.py").run()
        if experiment is not None:
            app.sidebar.selectbox(key="experiment").set_value(experiment).run()
        return app

    return opened


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return build_example(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def address(store: RunStore) -> Iterator[str]:
    """The address of a dashboard over the example store, served until the tests are done."""
    state = store.path.parent
    with serving(lambda port: command(state, port), state / "server.log") as at:
        yield at
