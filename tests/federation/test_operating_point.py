"""The operating point on its way: from hospitals' sums into the checkpoint, and out of it with the next task."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from braincl_med.evaluation.operating import TEMPERATURES, Known
from braincl_med.federation.checkpoint import (
    NAME,
    VERSION,
    Checkpoint,
    folder_of,
    load_checkpoint,
    load_moments,
    save_checkpoint,
)
from braincl_med.federation.coordinator import Coordinator, _operating_point
from braincl_med.federation.extend import add_task, remove_task
from braincl_med.federation.hospital import Hospital
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.foundation.errors import ConfigError, DataError, VaultError
from braincl_med.foundation.files import canonical_json, sha256_of
from braincl_med.messages.report import Report
from braincl_med.records.store import RunStore
from braincl_med.streams.named import build_registry
from braincl_med.streams.tasks import Scans
from tests.federation.experiments import tiny

ONE = {"stream_task_count": 1, "sleep_rounds": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """State roots of a run whose hospitals keep their familiarity to themselves, and of one where they share it."""
    roots = {kind: tmp_path_factory.mktemp(kind) for kind in ("own", "shared")}
    for kind, root in roots.items():
        learned(tiny(root, federation_familiarity=kind, **ONE))
    return roots


@pytest.fixture
def state(finished, tmp_path):
    """A copy of the former."""
    return shutil.copytree(finished["own"], tmp_path / "own")


@pytest.fixture
def shared(finished, tmp_path):
    """A copy of the latter."""
    return shutil.copytree(finished["shared"], tmp_path / "shared")


def learned(config, exchange=None):
    Coordinator(config, exchange or local_exchange(local_hospitals(config))).run()
    return load_checkpoint(folder_of(config.state_folder, config.name))


def without_validation(monkeypatch):
    monkeypatch.setattr(Hospital, "validation", lambda self, registry, task: Scans.none(28))


def test_a_run_ends_with_an_operating_point_of_its_validation_scans(state):
    done = load_checkpoint(folder_of(state, "tiny"))
    point = done.operating
    assert (done.version, point.source, point.score, point.hospitals) == (VERSION, "validation", "max-softmax", 2)
    assert point.counts == (6,) * 9
    assert not done.moments
    assert 0 <= point.set_aside <= 0.05


def test_shared_familiarity_is_told_kept_beside_the_network_and_dropped_with_the_next_task(shared):
    config = tiny(shared, federation_familiarity="shared", **ONE)
    folder = folder_of(shared, "tiny")
    done = load_checkpoint(folder)
    assert [s.phase for s in RunStore(shared).steps("tiny")][-2:] == ["discriminate", "evaluate"]
    assert done.operating.score == "familiarity"
    assert load_moments(folder, done)["moments.sums"].shape == (9, 64)
    assert {p.name for p in folder.glob("*.safetensors")} == {done.weights, done.moments}

    add_task(shared, "tiny", "more", ["phantom-fundus/0", "phantom-fundus/1"])
    assert load_checkpoint(folder).operating == done.operating
    remove_task(shared, "tiny", "more")
    add_task(shared, "tiny", "more", ["phantom-fundus/0", "phantom-fundus/1"])
    exchange = local_exchange(local_hospitals(config))

    def watching(order):
        now = load_checkpoint(folder)
        if order.phase != "encode":
            assert (now.operating, now.moments) == (None, "")
            assert len(list(folder.glob("*.safetensors"))) == 1
        return exchange(order)

    again = learned(config, watching)
    assert len(again.operating.counts) == 11
    assert load_moments(folder, again)["moments.sums"].shape == (11, 64)


def test_a_classifier_that_is_trained_stays_so_where_familiarity_is_shared(finished):
    own, shared = (load_checkpoint(folder_of(root, "tiny")) for root in finished.values())
    assert own.sha256 == shared.sha256


@pytest.mark.parametrize(
    ("overrides", "source"),
    [({}, "recalls"), ({"method": "joint"}, "training"), ({"stream_evaluate": "val"}, "evaluated")],
)
def test_without_validation_scans_known_ones_are_recalled_or_those_trained_on(
    tmp_path, monkeypatch, overrides, source
):
    without_validation(monkeypatch)
    assert learned(tiny(tmp_path, **ONE, **overrides)).operating.source == source


def test_a_single_validation_scan_is_joined_with_what_is_recalled(tmp_path, monkeypatch):
    whole = Hospital.validation
    monkeypatch.setattr(Hospital, "validation", lambda self, registry, task: whole(self, registry, task).take([0]))
    point = learned(tiny(tmp_path, **ONE)).operating
    assert (point.source, point.hospitals) == ("mixed", 2)
    assert min(point.counts) > 1


@pytest.mark.parametrize("method", ["finetune", "icarl"])
def test_there_is_none_without_known_scans_or_one_network_that_answers_alone(tmp_path, monkeypatch, method):
    without_validation(monkeypatch)
    assert learned(tiny(tmp_path, method=method, **ONE)).operating is None


def test_validation_scans_that_cannot_be_had_are_none(tmp_path, monkeypatch):
    hospital = local_hospitals(tiny(tmp_path))[0]

    class Broken:
        def scans(self, registry, task, split):
            raise DataError("no such split")

    object.__setattr__(hospital, "source", Broken())
    assert len(hospital.validation(build_registry(hospital.config.stream, 1), 0)) == 0


def test_a_hospital_that_tells_of_most_scans_is_named(caplog):
    def told(hospital, scans):
        logits = np.random.default_rng(0).normal(size=(scans, 2))
        known = Known.of("validation", "max-softmax", logits, np.full(scans, 0.5), np.arange(scans) % 2)
        return Report(hospital, figures={"known": [known.as_figure()]})

    for scans, words in (
        (30, ""),
        (500, "c tells of 500 of 560 known scans, so the operating point is mostly its own"),
    ):
        caplog.clear()
        assert _operating_point([told("a", 30), told("b", 30), told("c", scans)], {}).scans == 60 + scans
        assert "\n".join(r.message for r in caplog.records if r.levelname == "WARNING") == words


def test_sums_that_belong_to_no_scans_are_that_hospitals_refusal(tmp_path):
    config = tiny(tmp_path, federation_hospitals=2, federation_quorum=1, **ONE)
    exchange = local_exchange(local_hospitals(config))

    def spoiling(order):
        return [
            dataclasses.replace(r, figures={**r.figures, "known": [{**r.figures["known"][0], "losses": [1.0]}]})
            if order.phase == "evaluate" and r.hospital == "site-1"
            else r
            for r in exchange(order)
        ]

    done = learned(config, spoiling)
    missing = {s.phase: s.missing for s in RunStore(tmp_path).steps("tiny") if s.missing}
    assert missing == {"evaluate": {"site-1": f"it tells losses at 1 temperatures, expected {len(TEMPERATURES)}"}}
    assert done.operating.hospitals == 1


def test_a_hospital_that_tells_no_sums_takes_part_all_the_same(tmp_path):
    config = tiny(tmp_path, **ONE)
    exchange = local_exchange(local_hospitals(config))

    def silent(order):
        reports = exchange(order)
        return [dataclasses.replace(r, figures={k: v for k, v in r.figures.items() if k != "known"}) for r in reports]

    assert learned(config, silent).operating is None


@pytest.mark.parametrize("version", [1, 2])
def test_checkpoints_of_former_versions_are_read_and_written_anew(state, version):
    config, folder = tiny(state, **ONE), folder_of(state, "tiny")
    done = load_checkpoint(folder)
    former = done.model_dump(mode="json", exclude={"operating", "moments", "moments_sha256"}) | {"version": version}
    (folder / NAME).write_bytes(canonical_json({"checkpoint": former, "sha256": sha256_of(canonical_json(former))}))
    read = load_checkpoint(folder)
    assert (read.version, read.operating, read.moments) == (version, None, "")
    assert run_locally(config) == "nothing to learn: all 1 tasks of 'tiny' are learned"
    assert save_checkpoint(folder, read).version == VERSION
    assert load_checkpoint(folder).version == VERSION
    assert json.loads((folder / NAME).read_bytes())["checkpoint"]["operating"] is None


def test_moments_that_were_changed_are_refused(shared):
    folder = folder_of(shared, "tiny")
    done = load_checkpoint(folder)
    path = folder / done.moments
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(VaultError, match=r"'moments-.*' was changed or damaged"):
        load_moments(folder, done)
    path.unlink()
    with pytest.raises(VaultError, match=r"'moments-.*' is missing"):
        load_moments(folder, done)
    assert load_moments(folder, Checkpoint(experiment="x", settings={}, registry=done.registry)) == {}


@pytest.mark.parametrize("overrides", [{"method": "finetune"}, {"sleep_enabled": False}])
def test_familiarity_is_not_shared_where_nobody_has_samples_of_all_classes(tmp_path, overrides):
    with pytest.raises(ConfigError, match="federation-familiarity 'shared' needs"):
        tiny(tmp_path, federation_familiarity="shared", **overrides)
