"""The pages for those who run it: hospitals, privacy, runs, memory."""

import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from braincl_med.records.schema import TOGETHER
from braincl_med.records.store import RunStore
from braincl_med.records.summary import summarise
from braincl_med.records.table import percent, points, size
from tests.dashboard.conftest import OpenPage
from tests.dashboard.reading import bar_charts, metrics, words
from tests.dashboard.test_pages import PAGES
from tests.records.example_store import AUDIT, REAL, REGISTRY, begin, build_example, confusion_after, learn


def test_experiments_on_other_scans_are_not_compared_without_a_word(open_page: OpenPage, tmp_path: Path) -> None:
    store = build_example(tmp_path)
    assert "cannot be compared" not in words(open_page("runs"))
    begin(store, "elsewhere", data=f"{REAL}, evaluated on VALIDATION scans")
    app = open_page("runs", "elsewhere")
    app.sidebar.multiselect(key="compared").set_value(["elsewhere", "memories"]).run()
    assert "cannot be compared" in words(app)
    assert "VALIDATION" in app.table[1].value.loc["Scans", "elsewhere"]


def test_runs_shows_the_summarys_figures(open_page: OpenPage, tmp_path: Path) -> None:
    summary = summarise(build_example(tmp_path), "memories")
    app = open_page("runs", "memories")
    assert metrics(app) == {
        "Average accuracy": percent(summary.average_accuracy),
        "Accuracy now": percent(summary.last_accuracy),
        "Forgetting": points(summary.forgetting),
        "Weakest diagnosis": percent(summary.fairness.worst_accuracy if summary.fairness else None),
        "Kept on disk": size(summary.bytes_at_rest),
        "Sent over the network": size(summary.bytes_on_wire),
    }
    assert app.table[0].value.loc["Hospitals in the last step done"].tolist() == ["3 of 3"]
    comparison = app.table[1].value
    assert list(comparison.columns) == ["memories", "no\\-memory"]
    assert list(app.dataframe[0].value["Diagnosis"]) == [c.name for c in summary.classes]


def test_hospitals_are_shown_with_intervals_and_what_chance_does(open_page: OpenPage, tmp_path: Path) -> None:
    store = build_example(tmp_path)
    fair, tally = summarise(store, "memories").fairness, store.tally("memories")
    assert fair is not None
    app = open_page("hospitals", "memories")
    assert f"by up to {points(fair.hospital_chance)}" in words(app)
    rows = app.dataframe[0].value.set_index("Hospital")
    assert sorted(rows.index) == sorted(tally.hospitals)
    assert rows["Recognised, %"].is_monotonic_increasing
    for number, name in enumerate(tally.hospitals):
        right, scans = int(tally.correct[-1, number].sum()), int(tally.scans[-1, number].sum())
        expected = binomtest(right, scans).proportion_ci(method="wilson")
        assert rows.loc[name, "Recognised, %"] == pytest.approx(100 * right / scans)
        assert rows.loc[name, ["from", "to"]].tolist() == pytest.approx([100 * expected.low, 100 * expected.high])
    assert any("no answer in time" in str(table.value) for table in app.table)


def test_a_hospitals_own_view_shows_the_others_as_one(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = build_example(tmp_path).tally("memories")
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--hospital", "site-0"])
    app = open_page("hospitals", "memories")
    rows = app.dataframe[0].value.set_index("Hospital")
    assert list(rows.index) == ["site-0", "all other hospitals"], "its own first, though others are served less"
    assert rows.loc["all other hospitals", "Test scans"] == tally.scans[-1, [1, 2]].sum()
    told = words(app) + str([table.value for table in app.table])
    assert not any(other in told for other in ("site-1", "site-2"))


def test_in_a_hospitals_own_view_no_page_names_another(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = build_example(tmp_path)
    store.end("memories", "failed", "no quorum: site-1 and site-2 gave no answer, site-0 did")
    with sqlite3.connect(store.path) as db:
        db.execute("DELETE FROM storage WHERE after_task=2 AND hospital='site-2'")
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--hospital", "site-0"])
    named = []
    for page in PAGES:
        app = open_page(page, "memories")
        assert not app.exception, page
        drawn = "".join(str(getattr(node, "proto", "")) for node in app._tree).replace("\\", "")
        assert "site-1" not in drawn, page
        assert "site-2" not in drawn, page
        named += [page] * ("site-0" in drawn)
    assert {"hospitals", "fairness", "diagnosis", "memory", "privacy", "runs"} <= set(named)
    assert "another hospital and another hospital gave no answer, site-0 did" in words(app)
    (_, kept), *_ = bar_charts(open_page("memory", "memories"))
    others = kept[(kept["Hospital"] == "all other hospitals") & (kept["Part"] == "coded scans (cues)")]
    assert others["Bytes"].tolist() == [61_000 * 3 + 61_000 * 2], "of one that missed the latest evaluation too"


def test_fairness_of_one_hospital(open_page: OpenPage, tmp_path: Path) -> None:
    build_example(tmp_path)
    app = open_page("fairness", "memories")
    app.main.selectbox[0].set_value("site-1")
    for radio in app.radio:
        radio.set_value(radio.options[1])
    assert not app.run().exception


def test_one_hospital_and_groups_too_small_to_be_told_of(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(tmp_path, create=True)
    begin(store, "small")
    for task in range(2):
        store.record_evaluation("small", task, "alone", np.diag([2] * REGISTRY.seen(task)), {}, {})
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--hospital", "alone"])
    app = open_page("hospitals", "small")
    assert not app.exception
    assert app.dataframe[0].value["Recognised, %"].tolist() == [100.0], "8 scans together"
    assert "nothing to compare it with" in words(app)
    for page in ("accuracy", "fairness", "diagnosis"):
        assert not open_page(page, "small").exception, page
    assert "No diagnosis has 5 test scans" in words(open_page("fairness", "small"))


def test_a_masked_sum_compares_no_hospitals(open_page: OpenPage, tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    begin(store, "summed")
    store.record_evaluation("summed", 0, TOGETHER, 5 * np.eye(REGISTRY.seen(0), dtype=int), {}, {"cues": 5})
    app = open_page("hospitals", "summed")
    assert "nobody knows what was right at which" in words(app)
    assert not app.dataframe
    app = open_page("fairness", "summed")
    assert not app.exception
    assert app.main.selectbox[0].options == [TOGETHER]


def test_a_method_that_keeps_nothing_keeps_0_bytes(open_page: OpenPage, tmp_path: Path) -> None:
    build_example(tmp_path)
    assert "0 bytes on disk" in words(open_page("memory", "no-memory"))


def test_memory_of_a_hospital_that_missed_the_latest_evaluation_still_counts(
    open_page: OpenPage, tmp_path: Path
) -> None:
    store = RunStore(tmp_path, create=True)
    begin(store, "gap")
    rng = np.random.default_rng(0)
    for task, hospitals in ((0, ("a", "b")), (1, ("a",))):
        for hospital in hospitals:
            store.record_evaluation(
                "gap",
                task,
                hospital,
                confusion_after(task, "braincl", rng),
                {},
                {"cues": 1000 * (task + 1), "records": 9},
            )
    app = open_page("memory")
    table = app.table[0].value
    assert metrics(app)["Kept on disk"] == size(3000)
    assert [c.replace("\\", "") for c in table.columns] == ["a", "b (told after 1 · blood-cells)", "all"]
    assert [cell.replace("\\", "") for cell in table.iloc[-1]] == [size(2000), size(1000), size(3000)]
    assert "18 samples are kept" in words(app)
    by_step = next(drawn for drawn in bar_charts(app) if "After" in drawn[1])
    assert by_step[0] == "KiB on disk"
    assert by_step[1].groupby("After")["Bytes"].sum().to_dict() == {
        "1 · blood-cells": 2000,
        "2 · breast-ultrasound": 3000,
    }


def test_a_method_that_keeps_all_scans_does_not_keep_0_bytes(open_page: OpenPage, tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    begin(store, "all-scans", "joint")
    learn(store, "all-scans", "finetune")
    for page in ("runs", "memory"):
        app = open_page(page)
        assert metrics(app)["Kept on disk"] == "all raw scans"
        assert "0 bytes" not in words(app)


def test_an_audit_names_what_failed_and_how_often_recalls_were_matched(open_page: OpenPage, tmp_path: Path) -> None:
    build_example(tmp_path)
    app = open_page("privacy", "memories")
    assert "**Failed:** site-1. 2 of 3 vaults of this experiment" in app.error[0].value.replace("\\", "")
    assert metrics(app)["Likeness (PSNR)"] == "22.4 dB"
    expected = binomtest(20, 64).proportion_ci(method="wilson")  # 0.31 of 64
    assert f"Matched: 20 of 64 recalls, {percent(expected.low)} to {percent(expected.high)}" in words(app)
    assert "✘ failed" in str(app.table[2].value)
    assert "looked at no vault of this experiment" in words(open_page("privacy", "no-memory"))


def test_audits_with_gaps(open_page: OpenPage, tmp_path: Path) -> None:
    store = build_example(tmp_path)
    gaps = ({}, {"fidelity": {}, "files": [{}], "checks": [{}]}, {"fidelity": {"re-identified": 0.5, "scans": 0}})
    for vault in gaps:
        for report in ({"vaults": [{"experiments": ["memories"], **vault}]}, {"vaults": [vault]}, {}):
            store.record_audit(True, report)
            assert not open_page("privacy", "memories").exception, report


def test_an_audit_that_passed_is_not_said_to_make_memories_anonymous(open_page: OpenPage, tmp_path: Path) -> None:
    build_example(tmp_path).record_audit(True, {"vaults": AUDIT["vaults"][:1]})
    app = open_page("privacy", "memories")
    assert "**Passed:** 1 of 3 vaults" in app.success[0].value
    assert "not mean that the memories are anonymous" in words(app)
    assert not app.error
    assert app.dataframe[0].value["Outcome"].tolist() == ["passed", "failed"]


def test_what_was_spent_of_differential_privacy(open_page: OpenPage, tmp_path: Path) -> None:
    store = build_example(tmp_path)
    assert "no ε bounds what weights tell" in words(open_page("privacy", "memories"))
    for task, spent in enumerate((1.25, 2.5)):
        store.record_epsilon("memories", task, {"site-0": spent, "site-1": spent / 2})
    app = open_page("privacy", "memories")
    assert "ε = 2.50" in words(app)
    assert app.dataframe[-1].value["ε spent in all"].tolist() == [1.25, 0.625, 2.5, 1.25]
