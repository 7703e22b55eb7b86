import os
import shutil

import pytest

from apps.cli.launcher import forget_experiment, run_experiment
from braincl_med.federation.checkpoint import folder_of, load_checkpoint
from braincl_med.federation.local import run_locally
from braincl_med.foundation.errors import DataError, LockedError
from braincl_med.foundation.files import LOCK_NAME, locked
from braincl_med.records.store import RunStore
from tests.federation.experiments import tiny

QUICK = {"stream_task_count": 1, "sleep_rounds": 1}


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The state root of two experiments; to be copied."""
    state = tmp_path_factory.mktemp("learned")
    for name in ("tiny", "other"):
        run_locally(tiny(state, name=name, **QUICK))
    return state


@pytest.fixture
def config(learned, tmp_path):
    shutil.copytree(learned, tmp_path, dirs_exist_ok=True)
    return tiny(tmp_path, **QUICK)


def test_nothing_but_the_locks_is_left_of_an_experiment(config, tmp_path):
    forget_experiment(config)
    assert load_checkpoint(folder_of(tmp_path, "tiny")) is None
    assert {p.name for p in (*folder_of(tmp_path, "tiny").iterdir(), *tmp_path.glob("site-*/tiny/*"))} == {LOCK_NAME}
    remembered = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("site-*/.federation/*/*")}
    assert remembered == {f"site-{number}/.federation/other/seen.json" for number in range(2)}
    assert RunStore(tmp_path).experiments() == ["other"]
    assert load_checkpoint(folder_of(tmp_path, "other")).finished
    run_locally(config)
    assert RunStore(tmp_path).experiment("tiny").status == "finished"
    assert "other" in RunStore(tmp_path).experiments()


def test_an_experiment_that_is_being_written_is_not_deleted(config, tmp_path):
    with (
        locked(folder_of(tmp_path, "tiny"), "it"),
        pytest.raises(LockedError, match=f"is being written by process {os.getpid()}"),
    ):
        forget_experiment(config)
    assert load_checkpoint(folder_of(tmp_path, "tiny")).finished
    assert sorted(RunStore(tmp_path).experiments()) == ["other", "tiny"]


def test_a_run_that_is_refused_deletes_nothing(config, tmp_path):
    missing = config.model_copy(
        update={
            "stream": config.stream.model_validate({"name": "medmnist12", "download": False}),
            "data_root": str(tmp_path / "nowhere"),
        }
    )
    with pytest.raises(DataError, match="is missing"):
        run_experiment(missing, cores_per_hospital=1, fresh=True)
    assert load_checkpoint(folder_of(tmp_path, "tiny")).finished
    assert sorted(RunStore(tmp_path).experiments()) == ["other", "tiny"]
