import json
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from braincl_med.foundation.errors import RecordsError
from braincl_med.records.store import RunStore
from braincl_med.records.summary import as_json, summarise
from braincl_med.records.table import duration, percent, size, table
from tests.records.example_store import HOSPITALS, REAL, begin, build_example, learn


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return build_example(tmp_path)


def by_hand(folder: Path) -> RunStore:
    """Two hospitals, two tasks: counts small enough for mental arithmetic."""
    store = RunStore(folder, create=True)
    begin(store, "hand", data=REAL)
    eight = np.zeros(8, int)
    for hospital in ("a", "b"):
        first = np.array([[10, 0], [0, 10]])
        store.record_evaluation("hand", 0, hospital, first, {}, {"cues": 100, "records": 4})
        second = np.diag([6, 10, 9, 7]) + np.array([[0, 0, 4, 0], [0] * 4, [0, 0, 0, 1], [0, 0, 3, 0]])
        known, near = eight.copy(), eight.copy()
        known[6], near[2] = 40, 5
        scores = {"energy": {"known-correct": known.tolist(), "unknown-near": near.tolist()}}
        store.record_evaluation("hand", 1, hospital, second, scores, {"cues": 190, "index": 10, "records": 8})
    return store


def test_figures_by_hand(tmp_path: Path) -> None:
    summary = summarise(by_hand(tmp_path), "hand")
    assert summary.evaluated == 2
    assert summary.hospitals == ("a", "b")
    assert summary.after_each == (1.0, 0.8)
    assert summary.average_accuracy == pytest.approx(0.9)
    assert summary.last_accuracy == pytest.approx(0.8)
    assert summary.matrix[1] == (0.8, 0.8)
    assert summary.forgetting == pytest.approx(0.2)
    assert [(c.first, c.now) for c in summary.classes[:2]] == [(1.0, 0.6), (1.0, 1.0)]
    assert [c.scans for c in summary.classes] == [20, 20, 20, 20, 0, 0]
    assert all(isnan(c.first) and isnan(c.now) for c in summary.classes[4:])
    assert summary.fairness is not None
    assert (summary.fairness.worst_class, summary.fairness.worst_accuracy) == (0, 0.6)
    assert summary.at_rest == {"cues": 380, "index": 20}
    assert (summary.bytes_at_rest, summary.records, summary.bytes_per_sample) == (400, 16, 25.0)
    row = summary.rejection_now("energy")
    assert row is not None
    assert (row.auroc_near, row.fpr95_near) == (1.0, 0.0)
    assert isnan(row.auroc_far)
    assert isnan(row.fpr95_far)
    assert not summary.synthetic


def test_few_scans_are_neither_the_worst_class_nor_a_share(tmp_path: Path) -> None:
    store = by_hand(tmp_path)
    store.record_evaluation("hand", 1, "c", np.diag([0, 0, 0, 1]), {}, {})
    few = np.zeros((4, 4), int)
    few[1, 0] = 4
    for hospital in ("a", "b"):
        store.record_evaluation("hand", 1, hospital, np.diag([6, 0, 9, 7]) + (few if hospital == "a" else 0), {}, {})
    summary = summarise(store, "hand")
    assert isnan(summary.classes[1].now), "4 of the 5 scans that may be told of"
    assert (summary.classes[1].scans, summary.withheld) == (None, 1)
    assert summary.fairness is not None
    assert (summary.fairness.worst_class, summary.fairness.worst_accuracy) == (0, 1.0)
    assert summary.fairness.hospital_spread == pytest.approx(1 - 22 / 26), "without the one scan of hospital c"
    assert "-> withheld" in table([summary])
    assert "hand: withheld: 1 classes of fewer than 5 test scans" in table([summary])


def test_a_group_of_diseases_of_few_scans_is_no_share(tmp_path: Path) -> None:
    store = by_hand(tmp_path)
    for hospital in ("a", "b"):
        store.record_evaluation("hand", 1, hospital, np.diag([6, 6, 1, 1]), {}, {})
    summary = summarise(store, "hand")
    assert summary.matrix[1][0] == 1.0
    assert isnan(summary.matrix[1][1])
    assert summary.forgetting == 0.0


def test_costs_and_missing_hospitals_are_summed(store: RunStore) -> None:
    summary = summarise(store, "memories")
    steps = store.steps("memories")
    assert [p.phase for p in summary.phases] == ["encode", "wake", "select", "sleep", "evaluate"]
    assert summary.bytes_on_wire == sum(s.bytes_down + s.bytes_up for s in steps)
    assert summary.seconds == pytest.approx(sum(s.seconds for s in steps))
    sleep = next(p for p in summary.phases if p.phase == "sleep")
    assert sleep.steps == 6
    assert [(m.task, m.phase, m.hospital, m.reason) for m in summary.missing] == [
        ("breast-ultrasound", "wake", "site-2", "no answer in time")
    ]


def test_what_a_hospital_kept_last_counts_though_it_missed_the_latest_evaluation(tmp_path: Path) -> None:
    store = by_hand(tmp_path)
    third = np.diag([8] * 4)
    store.record_evaluation("hand", 2, "a", third, {}, {"cues": 300, "records": 12})
    summary = summarise(store, "hand")
    assert summary.at_rest == {"cues": 300 + 190, "index": 10}
    assert summary.records == 12 + 8


def test_rejection_after_each_task(store: RunStore) -> None:
    summary = summarise(store, "memories")
    energy = [r for r in summary.rejection if r.score == "energy"]
    assert [r.after_task for r in energy] == [0, 1, 2]
    assert isnan(energy[-1].auroc_near), "after the last task no diagnosis is left to be near"
    near, false_positives = summary.mean_near("energy")
    assert near == pytest.approx(np.mean([r.auroc_near for r in energy[:2]]))
    assert false_positives == pytest.approx(np.mean([r.fpr95_near for r in energy[:2]]))
    assert all(isnan(value) for value in summary.mean_near("no-such-score"))


def test_a_method_without_memory_keeps_nothing(store: RunStore) -> None:
    summary = summarise(store, "no-memory")
    assert (summary.bytes_at_rest, summary.records, summary.bytes_per_sample) == (0, 0, None)
    assert summary.hospitals == HOSPITALS
    assert summary.synthetic


def test_a_method_without_any_storage_rows(tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    begin(store, "all", "joint")
    store.record_evaluation("all", 0, "a", np.eye(2, dtype=int), {}, {})
    summary = summarise(store, "all")
    assert (summary.bytes_at_rest, summary.records) == (None, None)
    assert summary.keeps_raw_scans
    assert "all: keeps all raw scans" in table([summary])


def test_nothing_evaluated_yet(tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    begin(store, "new")
    summary = summarise(store, "new")
    assert summary.evaluated == 0
    assert summary.average_accuracy is None
    assert summary.last_accuracy is None
    assert summary.forgetting is None
    assert summary.fairness is None
    assert summary.bytes_at_rest is None
    assert summary.bytes_per_sample is None
    assert summary.bytes_on_wire == 0
    assert len(summary.classes) == 6
    assert json.loads(json.dumps(as_json(summary), allow_nan=False))["average-accuracy"] is None
    assert "0 of 3" in table([summary])


def test_evaluated_without_a_single_test_scan(tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    begin(store, "blind")
    store.record_evaluation("blind", 0, "a", np.zeros((2, 2), int), {}, {"cues": 5, "records": 1})
    summary = summarise(store, "blind")
    assert summary.fairness is None
    assert json.dumps(as_json(summary), allow_nan=False)
    assert table([summary])


def test_a_class_without_test_scans(tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    begin(store, "gap")
    store.record_evaluation("gap", 0, "a", np.diag([4, 0]), {}, {})
    summary = summarise(store, "gap")
    assert summary.last_accuracy == 1.0
    assert isnan(summary.classes[1].now)


def test_json_has_no_nan_and_all_figures(store: RunStore) -> None:
    found = json.loads(json.dumps(as_json(summarise(store, "memories")), allow_nan=False))
    assert found["matrix"][0][1] is None
    assert found["classes"][0]["name"] == "blood: basophil"
    assert found["rejection"][-1]["auroc-near"] is None
    assert found["at-rest"]["cues"] == 3 * 3 * 61_000
    assert found["bytes-at-rest"] == sum(found["at-rest"].values())
    assert found["fairness"]["worst-accuracy"] == min(c["now"] for c in found["classes"])


def test_the_table_puts_experiments_beside_each_other(store: RunStore) -> None:
    summaries = [summarise(store, name) for name in ("memories", "no-memory")]
    lines = table(summaries).splitlines()

    def cells(label: str) -> list[str]:
        line = next(line for line in lines if line.strip().startswith(label))
        return [cell.strip() for cell in line.split("  ") if cell.strip()][1:]

    assert lines[0].split() == ["memories", "no-memory"]
    for label, values in {
        "average accuracy": [s.average_accuracy for s in summaries],
        "last accuracy": [s.last_accuracy for s in summaries],
        "forgetting": [s.forgetting for s in summaries],
        "3: chest-x-ray": [s.after_each[2] for s in summaries],
    }.items():
        assert cells(label) == [percent(v) for v in values], label
    assert cells("cues") == [size(549_000), "0 B"]
    assert cells("bytes per sample")[1] == "-"
    first = [s.classes[0] for s in summaries]
    assert cells("blood: basophil") == [f"{percent(c.first)} -> {percent(c.now)}" for c in first]
    assert any("SYNTHETIC" in line for line in lines)
    assert max(map(len, lines)) < 118


def test_the_table_of_different_tasks_and_of_none(store: RunStore, tmp_path: Path) -> None:
    begin(store, "short")
    learn(store, "short", "braincl", tasks=1)
    text = table([summarise(store, name) for name in ("short", "memories")])
    assert next(line for line in text.splitlines() if "3: chest-x-ray" in line).split()[2] == "-"
    assert table([]) == "no experiments yet"


def test_an_unknown_experiment_is_refused(store: RunStore) -> None:
    with pytest.raises(RecordsError, match="no experiment 'dreams'"):
        summarise(store, "dreams")


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1024, "1.00 KiB"), (600_000, "586 KiB"), (3 * 2**40, "3.00 TiB")],
)
def test_sizes(amount: float | None, text: str) -> None:
    assert size(amount) == text


def test_shares_and_durations() -> None:
    assert [percent(v) for v in (None, float("nan"), 0.5, 1.0)] == ["-", "-", "50.0 %", "100.0 %"]
    assert [duration(s) for s in (0.04, 59.9, 3599, 86400)] == ["0.0 s", "59.9 s", "59 min 59 s", "24 h 0 min"]
