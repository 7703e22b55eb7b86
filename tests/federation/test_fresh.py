import os

import pytest

from apps.cli.launcher import forget_experiment, run_experiment
from braincl_med.federation.checkpoint import folder_of, load_checkpoint
from braincl_med.federation.local import run_locally
from braincl_med.foundation.errors import DataError, LockedError
from braincl_med.foundation.files import LOCK_NAME, locked
from braincl_med.records.store import RunStore
from tests.federation.experiments import tiny


def begun(folder, **overrides):
    config = tiny(folder, stream_task_count=1, sleep_rounds=1, **overrides)
    run_locally(config)
    return config


def test_nothing_but_the_locks_is_left_of_an_experiment(tmp_path):
    config, other = begun(tmp_path), begun(tmp_path, name="other")
    forget_experiment(config)
    assert load_checkpoint(folder_of(tmp_path, "tiny")) is None
    assert {p.name for p in (*folder_of(tmp_path, "tiny").iterdir(), *tmp_path.glob("site-*/tiny/*"))} == {LOCK_NAME}
    assert RunStore(tmp_path).experiments() == ["other"]
    assert load_checkpoint(folder_of(tmp_path, "other")).finished
    run_locally(config)
    assert RunStore(tmp_path).experiment("tiny").status == "finished"
    assert other.name in RunStore(tmp_path).experiments()


def test_an_experiment_that_is_being_written_is_not_deleted(tmp_path):
    config = begun(tmp_path)
    with (
        locked(folder_of(tmp_path, "tiny"), "it"),
        pytest.raises(LockedError, match=f"is being written by process {os.getpid()}"),
    ):
        forget_experiment(config)
    assert load_checkpoint(folder_of(tmp_path, "tiny")).finished
    assert RunStore(tmp_path).experiments() == ["tiny"]


def test_a_run_that_is_refused_deletes_nothing(tmp_path):
    config = begun(tmp_path)
    missing = config.model_copy(
        update={
            "stream": config.stream.model_validate({"name": "medmnist12", "download": False}),
            "data_root": str(tmp_path / "nowhere"),
        }
    )
    with pytest.raises(DataError, match="is missing"):
        run_experiment(missing, cores_per_hospital=1, fresh=True)
    assert load_checkpoint(folder_of(tmp_path, "tiny")).finished
    assert RunStore(tmp_path).experiments() == ["tiny"]
