import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from typer.testing import CliRunner

from apps.cli.main import app
from braincl_med.bench import cells
from braincl_med.bench.cells import Result, results_of, run_cells
from braincl_med.bench.plan import BenchConfig, cells_of, chosen, load_bench
from braincl_med.foundation.errors import ConfigError
from braincl_med.methods import METHODS
from braincl_med.settings.loading import packaged_configs
from braincl_med.settings.methods import FACTS
from tests.bench.plans import ROWS, table_of, written


def test_every_cell_runs_and_a_second_call_has_nothing_to_do(finished):
    folder, bench = finished
    cells = list(cells_of(bench))
    assert [result.cell for result in results_of(cells, folder)] == cells
    again = []
    assert run_cells(cells, folder, 2, None, again.append) == []
    assert again == []


def test_figures_of_other_settings_are_refused_and_the_others_are_printed(finished, tmp_path, caplog):
    folder, _ = finished
    rows = ROWS.replace("{method: finetune}", "{method: finetune, sleep-epochs: 2}")
    changed = load_bench(str(written(tmp_path, rows)))
    found = results_of(list(cells_of(changed)), folder)
    assert {r.cell.row.name for r in found} == {"BrainCL", "Replay, equal bytes"}
    assert caplog.messages == [
        "small-phantom-finetune-seed-1: was run with other settings: sleep-epochs was 1, is 2; "
        "give another folder with --state"
    ]


def test_figures_of_other_settings_are_failures(finished, tmp_path):
    folder, _ = finished
    changed = load_bench(str(written(tmp_path, ROWS.replace("sleep-epochs: 1", "sleep-epochs: 2"))))
    sentence = "was run with other settings: sleep-epochs was 1, is 2; give another folder with --state"
    failures = run_cells(list(cells_of(changed)), folder, 2, None, list)
    assert [failure.partition(": ")[0] for failure in failures] == [cell.name for cell in cells_of(changed)]
    assert all(sentence in failure for failure in failures)


def test_a_row_of_equal_bytes_keeps_no_more_than_its_rival(finished):
    folder, bench = finished
    kept = {r.cell.row.name: r.kept_bytes for r in results_of(list(cells_of(bench)), folder)}
    scan = 28 * 28 * 3
    # Whole scans only, and a file's own header.
    assert kept["BrainCL"] - 6 * scan < kept["Replay, equal bytes"] < kept["BrainCL"] + 6 * 1024
    assert kept["Finetune"] == 0


@pytest.mark.parametrize("keeps", [1.5, None])
def test_a_row_whose_rival_keeps_other_bytes_now_is_refused(finished, monkeypatch, caplog, keeps):
    folder, bench = finished
    monkeypatch.setattr(Result, "bytes_per_scan", keeps)
    assert {r.cell.row.name for r in results_of(list(cells_of(bench)), folder)} == {"Finetune", "BrainCL"}
    assert f"'small-phantom-braincl-seed-1' keeps {keeps}; give another folder" in caplog.text


def test_a_damaged_note_of_the_peak_is_an_unfinished_cell(finished, tmp_path):
    folder, bench = finished
    shutil.copytree(folder, tmp_path / "state")
    [note] = (tmp_path / "state" / "bench").glob("*finetune*")
    note.write_bytes(b"{")
    assert len(results_of(list(cells_of(bench)), tmp_path / "state")) == 2


def test_a_cell_that_cannot_start_or_dies_stops_no_other(tmp_path, monkeypatch):
    """Of three cells one dies, one cannot be started, and one ends well."""
    bench = load_bench(str(written(tmp_path, "rows:\n  - {name: dies}\n  - {name: starts not}\n  - {name: ends}\n")))
    ended = []

    def start(cell, *_):
        if cell.row.name == "starts not":
            raise OSError("no more processes")
        ended.append(cell.row.name)
        return subprocess.Popen(["sh", "-c", "kill -9 $$" if cell.row.name == "dies" else "exit 0"])

    def look(cell, _):
        return Result(cell, None, 1, 1) if cell.row.name == "ends" and "ends" in ended else None

    monkeypatch.setattr(cells, "_start", start)
    monkeypatch.setattr(cells, "_look", look)
    reported = []
    failures = run_cells(list(cells_of(bench)), tmp_path, 1, None, reported.append)
    assert sorted(failures) == [
        "small-phantom-dies-seed-1: ended with status -9, its reason stands above",
        "small-phantom-starts-not-seed-1: could not be started: no more processes",
    ]
    assert [result.cell.row.name for result in reported] == ["ends"]


def test_a_row_equal_to_one_that_encoded_nothing_fails_alone(tmp_path, monkeypatch):
    bench = load_bench(str(written(tmp_path)))
    [rival] = [cell for cell in cells_of(bench) if cell.row.name == "BrainCL"]

    def look(cell, _):
        return None if cell.rival else Result(cell, None, 1, 0)

    monkeypatch.setattr(cells, "_look", look)
    [failure] = run_cells(list(cells_of(bench)), tmp_path, 1, None, list)
    assert "'BrainCL' encodes no scans, so it has no bytes a scan to be equal to" in failure
    assert rival.name not in failure


def test_rows_and_seeds_are_chosen_after_their_rivals(tmp_path):
    bench = load_bench(str(written(tmp_path)))
    assert [c.row.name for c in chosen(bench, ["Replay, equal bytes"])] == ["BrainCL", "Replay, equal bytes"]
    assert [c.row.name for c in chosen(bench, ["Finetune"], [1])] == ["Finetune"]
    assert len(chosen(bench)) == len(list(cells_of(bench)))
    with pytest.raises(ConfigError, match="no row 'Joint' in 'small', it has: Finetune, Replay"):
        chosen(bench, ["Joint"])
    with pytest.raises(ConfigError, match="no seed '2' in 'small', it has: 1"):
        chosen(bench, seeds=[2])


def test_a_seed_that_the_plan_does_not_have_is_refused(tmp_path):
    done = CliRunner().invoke(app, ["bench", str(written(tmp_path)), "--state", str(tmp_path), "--seed", "99"])
    assert isinstance(done.exception, ConfigError)
    assert "no seed '99' in 'small', it has: 1" in str(done.exception)


def test_a_time_limit_stops_cleanly_and_the_table_says_what_is_missing(tmp_path):
    path = written(tmp_path)
    done = CliRunner().invoke(app, ["bench", str(path), "--state", str(tmp_path), "--time-limit", "0"])
    assert done.exit_code == 0, done.output
    assert not results_of(list(cells_of(load_bench(str(path)))), tmp_path)
    assert {row["seeds"] for row in table_of(done.output, "method").values()} == {"0 of 1"}


def test_a_time_limit_stops_a_cell_that_runs(tmp_path, monkeypatch):
    started, start = [], cells._start

    def noted(*arguments):
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(cells, "_start", noted)
    plan = list(cells_of(load_bench(str(written(tmp_path)))))
    assert run_cells(plan, tmp_path, 1, time.monotonic() + 2, list) == []
    assert [process.returncode for process in started] == [-signal.SIGTERM]


def alive(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def test_a_killed_benchmark_leaves_no_cell_behind(tmp_path):
    command = [str(Path(sys.executable).parent / "braincl"), "bench", str(written(tmp_path))]
    bench = psutil.Popen([*command, "--state", str(tmp_path), "--row", "Finetune", "--workers", "1"])
    deadline = time.monotonic() + 60
    while not (cells := bench.children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(cells) == 1
    bench.kill()
    bench.wait()
    while any(alive(cell) for cell in cells) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(cell) for cell in cells)


def test_a_cell_that_fails_is_named_with_its_reason(tmp_path):
    path = written(tmp_path, "rows:\n  - {name: bad, set: {stream-name: medmnist12, stream-download: false}}\n")
    code = "from apps.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "bench", str(path), "--state", str(tmp_path)],
        capture_output=True,
        text=True,
        env={"PATH": "", "BRAINCL_DATA": str(tmp_path / "nothing"), "HOME": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "1 of 1 cells failed" in done.stderr
    assert "'bloodmnist.npz' is missing" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rows: []", "rows"),
        ("rows:\n  - {name: A}\n  - {name: a}", "two rows have one name"),
        ("rows:\n  - {name: A, equal-bytes-to: B}", "no row 'B'"),
        (
            "rows:\n  - {name: A, set: {method: mygo}}\n  - {name: B, set: {method: replay}, equal-bytes-to: A}",
            "row 'B': its bytes cannot equal those of 'A': mygo encodes no scans; name a row of braincl",
        ),
        (
            "rows:\n  - {name: A}\n  - {name: B, set: {method: ewc}, equal-bytes-to: A}",
            "row 'B': ewc keeps no exemplars",
        ),
        ("rows:\n  - {name: A}\nseeds: [1]", "the key 'seeds' stands there again"),
        ("set: {seed: 010}\nrows:\n  - {name: A}", "010 begins with a zero"),
        ("rows:\n  - {name: A, set: {sleep-flip: yes}}", "expected true or false"),
        ("rows:\n  - {name: A, set: {slep-epochs: 3}}", "did you mean sleep-epochs"),
        ("rows:\n  - {name: A, set: {sleep-epochs: 0}}", "sleep-epochs"),
        ("rows:\n  - {name: A, colour: red}", "colour"),
    ],
)
def test_a_plan_that_cannot_run_is_refused_before_anything_starts(tmp_path, text, reason):
    with pytest.raises(ConfigError, match=reason):
        load_bench(str(written(tmp_path, text)))


@pytest.mark.parametrize("path", sorted((packaged_configs() / "bench").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_benchmarks_that_travel_with_the_code_are_sound(path):
    bench = load_bench(path.stem)
    assert bench.name == path.stem == yaml.safe_load(path.read_text())["name"]
    assert json.dumps([cell.name for cell in cells_of(bench)])


def test_the_methods_that_encode_are_those_with_such_a_phase():
    encode = {name for name, method in METHODS.items() if "encode" in {phase.name for phase in method.phases}}
    assert encode == {name for name, facts in FACTS.items() if "memory" in facts.sections}


@pytest.mark.parametrize("seeds", [[1, 1], [True]])
def test_seeds_are_different_numbers(seeds):
    plan = {"name": "a", "experiment": "b", "streams": {"c": {}}, "rows": [{"name": "d"}]}
    with pytest.raises(ValueError, match=r"twice|expected a number"):
        BenchConfig.model_validate({**plan, "seeds": seeds})
