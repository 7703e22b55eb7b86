"""A diagnosis added on the page is the one that `braincl tasks add` adds, and what that refuses the page refuses."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from braincl_med.federation.beginning import starting_point
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, save_checkpoint
from braincl_med.records.store import RunStore
from braincl_med.settings.loading import load_experiment
from tests.dashboard.conftest import OpenPage

SETTINGS = "name: learned\nstream: {name: phantom, task-count: 4}\nfederation: {hospitals: 1}\n"


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A state root whose experiment has learned its one task, as far as its checkpoint and the store say."""
    config = load_experiment(SETTINGS, {"state-root": str(tmp_path)})
    begun = starting_point(config)
    first = begun.registry.model_copy(update={"tasks": begun.registry.tasks[:1]})
    learned = begun.model_copy(update={"registry": first, "task": 1})
    save_checkpoint(folder_of(tmp_path, "learned"), learned)
    store = RunStore(tmp_path, create=True)
    store.begin(config.as_result_settings(), first, {}, "SYNTHETIC PHANTOM SCANS")
    store.end("learned", "finished")
    return tmp_path


def tasks(state: Path) -> list[tuple[str, list[str]]]:
    checkpoint = load_checkpoint(folder_of(state, "learned"))
    assert checkpoint is not None
    return [(task.name, [spec.key for spec in task.classes]) for task in checkpoint.registry.tasks]


def asked(app: AppTest, name: str, classes: str) -> AppTest:
    app.text_input[0].set_value(name)
    app.text_area[0].set_value(classes)
    return next(button for button in app.main.button if button.label == "Check, and add").click().run()


def test_the_page_adds_what_the_command_would_and_refuses_what_it_refuses(
    finished: Path, open_page: OpenPage
) -> None:
    app = open_page("add")
    for name, classes, reason in (
        ("More diagnoses", "phantom-xray/2", "is refused: use up to 63 lower-case letters"),
        ("more", "phantom-xray/9", "has no class '9'"),
        ("more", "phantom-smear/0", "learned"),
        ("more", "", "names no class"),
    ):
        app = asked(app, name, classes)
        assert not app.exception
        assert len(app.error) == 1
        assert "Nothing was added" in app.error[0].value
        assert reason in app.error[0].value.replace("\\", "")
        assert len(tasks(finished)) == 1
    app = asked(app, "more", "phantom-xray/2\n\n phantom-ultrasound/1 ")
    assert not app.exception
    assert not app.error
    assert "was added" in app.success[0].value
    assert tasks(finished)[1] == ("more", ["phantom-xray/2", "phantom-ultrasound/1"])
