"""A network examined at all hospitals, over the same messages as everything else."""

import json
import shutil
from dataclasses import replace

import pytest

from braincl_med.cortex.cortex import apart
from braincl_med.evaluation.examination import COMBINED
from braincl_med.federation.checkpoint import folder_of, load_checkpoint
from braincl_med.federation.examine import examine, examined_config
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.foundation.errors import ConfigError
from braincl_med.methods.phase import BEFORE
from braincl_med.records.examined import as_json, examined
from braincl_med.records.examined_table import in_words
from braincl_med.records.store import RunStore
from braincl_med.scans.conditions import CONDITIONS
from tests.federation.experiments import tiny


@pytest.fixture(scope="module")
def learned(used, tmp_path_factory):
    """The finished run of `own`, run once more with nothing left to learn but to examine its network."""
    root = tmp_path_factory.mktemp("examined")
    shutil.copytree(used.state, root, dirs_exist_ok=True)
    run_locally(own(root, stream_examine="last", stream_examined_per_class="4"))
    return root


@pytest.fixture
def state(learned, tmp_path):
    return shutil.copytree(learned, tmp_path / "state")


def own(root, **changes):
    return tiny(root, name="own", stream_task_count=1, sleep_rounds=1, **changes)


def few(config, per_class):
    return config.model_copy(update={"stream": config.stream.model_copy(update={"examined_per_class": per_class})})


def reached(config):
    return local_exchange(local_hospitals(config))


def test_a_run_ends_with_an_examination_that_says_what_its_scans_say(learned):
    found = examined(RunStore(learned), "own")
    told = RunStore(learned).examinations("own")
    assert {after: list(at) for after, at in told.items()} == {0: ["site-0", "site-1"]}
    assert [one.hospital for one in found.hospitals] == ["site-0", "site-1"]
    assert found.scans == sum(one.scans for one in found.hospitals) <= 2 * 4 * 9
    assert found.temperature == load_checkpoint(folder_of(learned, "own")).operating.temperature
    assert {one.condition for one in found.conditions} <= CONDITIONS.keys()
    assert {one.group for one in found.separations if one.score == COMBINED} >= {"artefact-text", "unknown-far"}
    assert found.reference == "validation"
    for one in found.set_aside:
        assert one.by_softmax is None or one.by_softmax + one.by_familiarity == one.aside
    assert 1 <= found.effective_rank <= len(found.spectrum) == 64
    assert json.loads(json.dumps(as_json(found)))["calibration-error"] == found.calibration_error
    assert f"of {found.scans} scans right" in in_words(found)


def test_a_network_is_examined_again_with_nothing_else_changed(state):
    files = {path: path.read_bytes() for path in (state / "server").rglob("*.safetensors")}
    former, config = RunStore(state).examinations("own"), examined_config(state, "own")
    assert "2 of 2 hospitals examined the network after task" in examine(few(config, 4), reached)
    assert RunStore(state).examinations("own") == former
    examine(few(config, 1), reached)
    told = RunStore(state).examinations("own")[0]
    assert {max(one.conditions["jpeg"].scans) for one in told.values()} == {1}
    assert {path: path.read_bytes() for path in (state / "server").rglob("*.safetensors")} == files
    store = RunStore(state)
    assert store.experiment("own").status == "finished"
    store.take_back("own", 0, 0, "")
    assert examined(store, "own") is None


def test_a_checkpoint_with_everybodys_moments_sends_them_along(state):
    examine(few(examined_config(state, "tiny"), 2), reached)
    found = examined(RunStore(state), "tiny")
    assert found.after_task == 2
    assert found.separation("familiarity", "known-wrong") is not None
    assert found.separation(COMBINED, "unknown-near") is None
    first, classes = RunStore(state).experiment("tiny").registry.numbers(2).start, found.attention[1:]
    assert [one.class_number for one in classes] == list(range(first))
    assert 0 < found.attention[0].scans == sum(one.scans for one in classes) <= 2 * 2 * first


def test_a_network_that_did_not_change_looks_where_it_looked(state):
    def unchanged(config):
        honest = reached(config)

        def exchange(order):
            sent, before = apart(order.weights, BEFORE)
            same = {
                name: sent[name.removeprefix(BEFORE)][: len(tensor)] if tensor.ndim else tensor
                for name, tensor in before.items()
            }
            return honest(replace(order, weights={**sent, **same}))

        return exchange

    examine(few(examined_config(state, "tiny"), 2), unchanged)
    together = examined(RunStore(state), "tiny").attention[0]
    assert together.stayed == together.scans > 0
    assert together.correlation == pytest.approx(0.95)


def test_a_hospital_that_tells_nonsense_is_left_out(state):
    def lying(config):
        honest = reached(config)

        def exchange(order):
            first, second = honest(order)
            second.figures["conditions"]["jpeg"]["scans"][0] = 10**6
            return [first, second]

        return exchange

    config = examined_config(state, "own")
    free = few(config, 2).model_copy(update={"federation": config.federation.model_copy(update={"quorum": 0.5})})
    assert "1 of 2 hospitals" in examine(free, lying)
    assert list(RunStore(state).examinations("own")[0]) == ["site-0"]


def test_what_does_not_exist_or_is_hidden_is_not_examined(state):
    with pytest.raises(ConfigError, match="no experiment 'other'"):
        examined_config(state, "other")
    masked = own(state, federation_masking="on", federation_hospitals="3")
    with pytest.raises(ConfigError, match="federation-masking hides"):
        examine(masked, reached)
    with pytest.raises(ConfigError, match="stream-examine 'last'"):
        own(state, federation_masking="on", federation_hospitals="3", stream_examine="last")
