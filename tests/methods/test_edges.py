"""The smallest experiments that there are: tasks of one class, a scan or two, one hospital."""

import pytest
import torch

import tests.small_backbone  # noqa: F401
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, load_weights
from braincl_med.federation.local import run_locally
from braincl_med.foundation.errors import FederationError
from braincl_med.methods import METHODS
from braincl_med.records.store import RunStore
from braincl_med.settings.loading import load_experiment
from tests.federation.experiments import drawn_start

EXPERIMENT = """
name: edge
stream:
  name: tasks
  tasks:
    - {name: first, classes: [phantom-smear/0]}
    - {name: second, classes: [phantom-xray/0]}
  test-per-class: 4
memory: {components: 4, guidance: 0}
cortex: {network: small, stem: imagenet}
wake: {epochs: 1, learning-rate: 0.01}
sleep: {rounds: 1, epochs: 1, batch-size: 4, learning-rate: 0.01}
mygo: {generator-steps: 1}
"""


@pytest.mark.parametrize(("hospitals", "scans"), [(1, 2), (2, 3)])
@pytest.mark.parametrize("method", METHODS)
def test_tasks_of_one_class_and_a_scan_or_two_leave_a_sound_network(tmp_path, method, hospitals, scans):
    keys = {"method": method, "federation-hospitals": hospitals, "stream-train-per-class": scans}
    keys["selection-per-class"] = scans
    if METHODS[method].facts.all_classes:
        keys["sleep-classifier"] = "discriminant"
    if METHODS[method].facts.frozen:
        keys["cortex-weights"] = drawn_start(tmp_path / "start.safetensors")
    run_locally(load_experiment(EXPERIMENT, {**keys, "state-root": str(tmp_path)}))
    folder = folder_of(tmp_path, "edge")
    weights = load_weights(folder, load_checkpoint(folder))
    assert all(bool(torch.isfinite(t).all()) for t in weights.values() if t.is_floating_point())
    assert max(float(t.abs().max()) for n, t in weights.items() if n.startswith("classifier.")) < 100
    tally = RunStore(tmp_path).tally("edge")
    assert len(tally.hospitals) == hospitals
    assert tally.confusion.sum() == 8


@pytest.mark.parametrize("method", ["braincl", "finetune", "mygo"])
def test_a_single_scan_is_too_little_to_train_on_which_is_said(tmp_path, method):
    keys = {"method": method, "federation-hospitals": 1, "stream-train-per-class": 1, "selection-per-class": 1}
    config = load_experiment(EXPERIMENT, {**keys, "state-root": str(tmp_path)})
    with pytest.raises(FederationError, match="no hospital has any example of it, or two to train on"):
        run_locally(config)
