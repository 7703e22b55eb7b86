import io

import numpy as np
import pytest
import torch
from PIL import Image

from braincl_med.cortex.cortex import Cortex
from braincl_med.federation.local import run_locally
from braincl_med.methods.exemplars import exemplars, raw_bytes
from braincl_med.methods.sheets import from_sheets, to_sheets
from braincl_med.records.store import RunStore
from braincl_med.settings.config import CortexConfig
from braincl_med.streams.tasks import Scans
from tests.federation.experiments import tiny
from tests.methods.one_hospital import hospital_with, order_for, smooth

LABELS = [0] * 12 + [1] * 12 + [2] * 6


def remembered(folder, scans, method="replay-webp", **overrides):
    torch.manual_seed(0)
    hospital = hospital_with(folder, {0: scans}, method=method, **overrides)
    report = hospital.answer(order_for("remember", 0, Cortex(3, CortexConfig(network="small")).weights()))
    assert not report.failure
    return hospital, report.examples


@pytest.mark.parametrize("bytes_per_scan", [20, 31.4, 40])
def test_a_webp_sheet_uses_the_budget_up_to_less_than_one_scan(tmp_path, bytes_per_scan):
    hospital, count = remembered(tmp_path, smooth(LABELS), exemplars_bytes_per_scan=bytes_per_scan)
    stored = hospital.kept.load("webp", 0)
    assert stored["lengths"].tolist() == [stored["files"].nbytes]
    spent = stored["files"].nbytes + stored["lengths"].nbytes
    assert 0 < count < len(LABELS)
    assert spent <= bytes_per_scan * len(LABELS)
    assert spent + 2 * spent / count > bytes_per_scan * len(LABELS)
    assert spent < hospital.kept.sizes()["webp"] < spent + 2 * count + 400


def test_a_sheet_costs_less_than_files_of_the_same_quality():
    images = smooth([0] * 40).images
    alone = sum(len(to_sheets(images[i : i + 1], 30)[0]) for i in range(40))
    assert len(to_sheets(images, 30)[0]) < 0.7 * alone


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 41])
@pytest.mark.parametrize("height", [28, 60, 16_383])
def test_scans_come_back_from_their_sheets_in_order(count, height):
    images = np.repeat(np.arange(1, count + 1, dtype=np.uint8) * 5, 28 * 28 * 3).reshape(-1, 28, 28, 3)
    sheets = to_sheets(images, 100, height)
    assert len(sheets) == -(-count // (8 * (height // 28)))
    again = from_sheets(sheets, count, 28)
    assert again.shape == images.shape
    assert np.abs(again[:, 8:20, 8:20].astype(int) - images[:, 8:20, 8:20]).max(initial=0) <= 3


def test_files_of_one_scan_each_are_read_as_earlier_versions_wrote_them(tmp_path):
    images = smooth(LABELS).images[:5]
    hospital = hospital_with(tmp_path, {}, method="replay-webp")
    files = [to_sheets(image[None], 30)[0] for image in images]
    assert Image.open(io.BytesIO(files[0])).size == (28, 28)
    arrays = {
        "files": np.frombuffer(b"".join(files), np.uint8),
        "lengths": np.array([len(file) for file in files], np.uint32),
        "labels": np.arange(5, dtype=np.uint16),
    }
    hospital.kept.save("webp", 0, arrays)
    kept = exemplars(hospital, 0, "webp")
    assert kept.labels.tolist() == [0, 1, 2, 3, 4]
    distances = np.abs(kept.images[:, None].astype(float) - images[None]).mean(axis=(2, 3, 4))
    assert distances.argmin(1).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("method", ["icarl", "der"])
def test_other_exemplar_methods_keep_sheets_if_they_are_told_to(tmp_path, method):
    run_locally(
        tiny(
            tmp_path,
            method=method,
            exemplars_codec="webp",
            exemplars_bytes_per_scan=200,
            sleep_rounds=1,
            sleep_epochs=1,
            stream_task_count=2,
            stream_train_per_class=6,
            stream_test_per_class=2,
            federation_hospitals=1,
        )
    )
    store = RunStore(tmp_path)
    trained = {s.task: s.examples for s in store.steps("tiny") if s.phase == "train"}
    raw = raw_bytes(smooth([0])).item()
    # 18 scans a task; 200 bytes for each of them would pay for one or two raw scans.
    assert trained[1] - 18 > 200 * 18 / raw + 3
    assert {kind for _, _, kind, n in store.storage("tiny") if n} >= {"webp"}


def test_a_webp_budget_is_shared_evenly_by_classes(tmp_path):
    hospital, count = remembered(tmp_path, smooth(LABELS), exemplars_bytes_per_scan=30)
    counts = np.bincount(exemplars(hospital, 0, "webp").labels, minlength=3)
    assert counts.sum() == count
    assert counts.max() - min(counts[:2]) <= 1
    assert counts[2] == min(6, counts[0], counts[2])


def test_what_is_kept_is_a_webp_sheet_of_the_scans_that_replay_would_keep(tmp_path):
    scans = smooth(LABELS)
    hospital, count = remembered(tmp_path, scans, exemplars_per_class=4)
    rival, rivals = remembered(tmp_path / "raw", scans, method="replay", exemplars_per_class=4)
    assert count == rivals == 12
    stored = hospital.kept.load("webp", 0)
    first = Image.open(io.BytesIO(stored["files"][: stored["lengths"][0]].tobytes()))
    assert (first.format, first.size) == ("WEBP", (8 * 28, 2 * 28))
    lossy, raw = exemplars(hospital, 0, "webp"), exemplars(rival, 0)
    for label in range(3):
        errors = lossy.images[lossy.labels == label][:, None] - raw.images[raw.labels == label][None].astype(float)
        nearest = np.sqrt((errors**2).mean(axis=(2, 3, 4)))
        assert sorted(nearest.argmin(1).tolist()) == [0, 1, 2, 3]
        assert nearest.min(1).max() < 30
    assert not np.isin(lossy.images.reshape(12, -1).sum(1), raw.images.reshape(12, -1).sum(1)).all(), "not lossy"


def test_a_lower_quality_costs_fewer_bytes_so_that_the_same_budget_keeps_more(tmp_path):
    kept = {}
    for quality in (5, 90):
        hospital, count = remembered(
            tmp_path / str(quality), smooth(LABELS), exemplars_webp_quality=quality, exemplars_bytes_per_scan=25
        )
        lengths = hospital.kept.load("webp", 0)["lengths"]
        kept[quality] = (count, lengths.sum() / count)
    assert kept[5][0] > kept[90][0]
    assert kept[5][1] < kept[90][1]


def test_no_scans_or_no_bytes_leave_nothing_to_train_on(tmp_path):
    hospital, count = remembered(tmp_path, Scans.none(28))
    assert (count, len(exemplars(hospital, 0, "webp")), hospital.kept.sizes()) == (0, 0, {})
    hospital, count = remembered(tmp_path, smooth(LABELS), exemplars_bytes_per_scan=0.5)
    assert (count, len(exemplars(hospital, 0, "webp"))) == (0, 0)


@pytest.mark.parametrize(("method", "item"), [("replay", "exemplars"), ("replay-webp", "webp")])
def test_three_tasks_at_two_hospitals_are_trained_on_exemplars_of_the_tasks_before(tmp_path, method, item):
    run_locally(
        tiny(
            tmp_path,
            method=method,
            exemplars_per_class=2,
            sleep_rounds=1,
            sleep_epochs=1,
            stream_train_per_class=6,
            stream_test_per_class=2,
        )
    )
    store = RunStore(tmp_path)
    steps = store.steps("tiny")
    assert [s.phase for s in steps] == ["train", "calibrate", "remember", "evaluate"] * 3
    # 3 classes a task of 6 scans each; 2 exemplars of each class at each of 2 hospitals.
    assert [s.examples for s in steps if s.phase in ("train", "calibrate")] == [18, 18, 30, 30, 42, 42]
    assert [s.examples for s in steps if s.phase == "remember"] == [12, 12, 12]
    sizes = {after: n for after, hospital, kind, n in store.storage("tiny") if (hospital, kind) == ("site-0", item)}
    assert 0 < sizes[0] < sizes[1] < sizes[2]
