"""Another network takes the place of the shared one: it learns from memory alone, and the experiment goes on."""

from shutil import copytree

import pytest
import torch

from braincl_med.cortex.start import load_start, started
from braincl_med.federation.aggregate import average
from braincl_med.federation.beginning import starting_point
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, load_weights, save_checkpoint
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.extend import add_task
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.seeding import seed_everything, seed_for
from braincl_med.messages.order import Order
from braincl_med.methods.base import grow
from braincl_med.records.store import RunStore
from braincl_med.streams.source import ScanSource
from tests.federation.experiments import drawn_start, tiny

FEW = {"stream_task_count": 2, "sleep_rounds": 2, "stream_test_per_class": 4}


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    state = tmp_path_factory.mktemp("learned")
    run_locally(tiny(state, **FEW))
    drawn_start(state / "start.safetensors", "small-512")
    return state


@pytest.fixture
def learned(once, tmp_path):
    return copytree(once, tmp_path / "state")


def other(state, **overrides):
    named = {"cortex_network": "small-512", "cortex_weights": str(state / "start.safetensors")}
    return tiny(state, **{**FEW, **named, **overrides})


def taught_by_the_vaults(config):
    """A new network, trained for a sleep on what the vaults of `config` hold, step by step."""
    exchange = local_exchange(local_hospitals(config))
    registry = load_checkpoint(folder_of(config.state_folder, "tiny")).registry
    seed_everything(seed_for(config.seed, "cortex", 1))
    weights = grow({}, config.cortex, registry.seen(1))
    weights = started(weights, load_start(config.state_folder / "start.safetensors")[0])
    for phase, number in (("sleep", 0), ("sleep", 1), ("calibrate", 0)):
        weights = average(exchange(Order("tiny", 1, phase, number, registry, weights)), weights)
    return weights


def test_the_other_network_is_the_one_that_the_vaults_teach_and_no_training_scan_is_read(learned, monkeypatch):
    before = RunStore(learned)
    steps, registry = before.steps("tiny"), before.experiment("tiny").registry
    cues = {path: path.read_bytes() for path in learned.glob("site-*/tiny/*.cue")}
    config = other(learned)
    expected = taught_by_the_vaults(config)
    read = []
    scans = ScanSource.scans
    monkeypatch.setattr(ScanSource, "scans", lambda self, *of: read.append(of[-1]) or scans(self, *of))
    run_locally(config)
    assert "train" not in read
    after = load_checkpoint(folder_of(learned, "tiny"))
    weights = load_weights(folder_of(learned, "tiny"), after)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())
    assert after.finished
    assert after.registry == registry
    assert after.changes == ("from task 3 on: cortex-network was 'small', is 'small-512'",)
    assert {path: path.read_bytes() for path in learned.glob("site-*/tiny/*.cue")} == cues
    store = RunStore(learned)
    assert [s for s in store.steps("tiny") if s.task == 0] == [s for s in steps if s.task == 0]
    assert store.experiment("tiny").status == "finished"
    assert "nothing to learn" in run_locally(config)
    with pytest.raises(ConfigError, match=r"'tiny' gave up that network .* is 'small'\): write the present settings"):
        run_locally(tiny(learned, **FEW))
    add_task(learned, "tiny", "more", ["phantom-fundus/0"])
    run_locally(config)
    assert load_checkpoint(folder_of(learned, "tiny")).task == 3


@pytest.mark.parametrize("stop_at", [1, 3])
def test_an_interrupted_swap_ends_with_the_same_bits(learned, stop_at):
    config = other(learned)
    expected = taught_by_the_vaults(config)
    exchange = local_exchange(local_hospitals(config))
    asked = []

    def killed(order):
        asked.append(order)
        if len(asked) > stop_at:
            raise KeyboardInterrupt
        return exchange(order)

    with pytest.raises(KeyboardInterrupt):
        Coordinator(config, killed).run()
    with pytest.raises(ConfigError, match="was interrupted in task"):
        run_locally(config)
    run_locally(config.model_copy(update={"resume": True}))
    folder = folder_of(learned, "tiny")
    weights = load_weights(folder, load_checkpoint(folder))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())


def test_what_cannot_take_another_network_is_refused_and_stays(learned, tmp_path):
    folder = folder_of(learned, "tiny")
    whole = load_checkpoint(folder)
    settings = {**whole.settings, "method": "replay", "exemplars": {}}
    save_checkpoint(folder, whole.model_copy(update={"settings": settings}))
    with pytest.raises(ConfigError, match=r"method replay of 'tiny' has no memories.*of another name"):
        starting_point(other(learned, method="replay"))
    save_checkpoint(folder, whole.model_copy(update={"task": 1, "position": 2}))
    with pytest.raises(ConfigError, match="other settings: cortex-network was 'small', is 'small-512'"):
        starting_point(other(learned, resume=True))
    save_checkpoint(folder, whole)
    with pytest.raises(ConfigError, match=r"'gone.pt' .* cannot be read"):
        starting_point(other(learned, cortex_weights=str(tmp_path / "gone.pt")))
    assert load_checkpoint(folder).weights == whole.weights
