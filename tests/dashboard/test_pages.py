import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from apps.dashboard import charts, data
from apps.dashboard.frame import plain
from apps.dashboard.launch import command
from braincl_med.evaluation.rejection import EDGES
from braincl_med.foundation.files import locked
from braincl_med.foundation.places import server_folder
from braincl_med.records.database import STORE_NAME
from braincl_med.records.schema import Step
from braincl_med.records.store import RunStore
from braincl_med.records.summary import summarise
from braincl_med.records.table import percent
from tests.dashboard.conftest import OpenPage
from tests.dashboard.reading import metrics, words
from tests.records.example_store import AUDIT, REAL, REGISTRY, begin, build_example, confusion_after, learn

PAGES = {
    "ready": "Can I use it?",
    "diagnosis": "A diagnosis",
    "accuracy": "Accuracy as diseases are added",
    "fairness": "Fairness",
    "unknown": "Unknown scans",
    "sure": "How sure is it?",
    "poor": "Poor images",
    "hospitals": "Hospitals",
    "privacy": "Privacy",
    "runs": "Runs",
    "memory": "Memory and network",
    "add": "Add a diagnosis",
}
FIGURES = [page for page in PAGES if page not in ("add", "poor", "sure")]


@pytest.mark.parametrize("experiment", ["memories", "no-memory"])
def test_pages_of_finished_experiments(experiment: str, open_page: OpenPage, tmp_path: Path) -> None:
    build_example(tmp_path)
    for page, title in PAGES.items():
        app = open_page(page, experiment)
        assert not app.exception, page
        assert [t.value for t in app.title] == [title]
        assert "Synthetic phantom scans, not medical data" in words(app)


def test_an_experiment_that_has_only_begun(open_page: OpenPage, tmp_path: Path) -> None:
    begin(RunStore(tmp_path, create=True), "new", data=REAL)
    with locked(server_folder(tmp_path, "new"), "it"):
        for page in FIGURES:
            app = open_page(page)
            assert not app.exception, page
            assert "'new' is running" in words(app)
            assert "Synthetic" not in words(app)


def test_a_killed_experiment_is_shown_as_stopped_though_its_file_says_nothing(
    open_page: OpenPage, tmp_path: Path
) -> None:
    begin(RunStore(tmp_path, create=True), "new", data=REAL)
    with locked(server_folder(tmp_path, "new"), "it"):
        assert "**Status:** Running" in words(open_page("runs"))
    app = open_page("runs")
    assert "**Status:** Stopped" in words(app)
    assert "'new' stopped before its end" in words(app)
    assert "resume" in words(app)


def test_an_experiment_in_its_second_task(open_page: OpenPage, tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    begin(store, "half")
    learn(store, "half", "braincl", tasks=1)
    for page in FIGURES:
        app = open_page(page)
        assert not app.exception, page
        assert "1 of 3 groups" in words(app)


def test_a_stopped_experiment_says_why(open_page: OpenPage, tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    begin(store, "broken", "joint")
    store.end("broken", "failed", "wake of task 'blood-cells': 1 of 3 hospitals gave a usable answer")
    for page in FIGURES:
        app = open_page(page)
        assert not app.exception, page
        assert "1 of 3 hospitals gave a usable answer" in words(app)


def test_gaps_in_what_was_measured(open_page: OpenPage, tmp_path: Path) -> None:
    """A class without test scans, a silent hospital, no scores in one task, empty scores in the next, no storage."""
    store = RunStore(tmp_path, create=True)
    begin(store, "gaps")
    rng = np.random.default_rng(0)
    first = confusion_after(0, "braincl", rng)
    first[1] = 0
    empty = {"energy": {"known-correct": [0] * 500, "unknown-far": [0] * 500}}
    far = {"energy": {"unknown-far": [0] * 499 + [3]}, "some-new-score": {"known-correct": [1, 2]}}
    strange = {"some-new-score": {"known-correct": [1, 2]}}
    store.record_evaluation("gaps", 0, "a", first, {}, {})
    store.record_evaluation("gaps", 0, "b", np.zeros((2, 2), int), {}, {"cues": 0, "records": 0})
    for counts, scores, storage in (
        (np.zeros((4, 4), int), empty, {"cues": 3, "new-item": 5, "records": 0}),
        (np.eye(4, dtype=int), empty, {}),
        (np.eye(4, dtype=int), far, {}),
        (np.eye(4, dtype=int), strange, {}),
    ):
        store.record_evaluation("gaps", 1, "a", counts, scores, storage)
        for page in FIGURES:
            assert not open_page(page).exception, page


def test_familiarity_of_uneven_shares_carries_a_warning(open_page: OpenPage, tmp_path: Path) -> None:
    store = build_example(tmp_path)
    assert "share these diagnoses unevenly" not in words(open_page("unknown", "memories"))
    settings = store.experiment("memories").config
    store.begin(settings | {"stream": settings["stream"] | {"share": "dirichlet"}}, REGISTRY, {}, REAL)
    assert "share these diagnoses unevenly" in words(open_page("unknown", "memories"))


def test_a_new_record_is_shown_when_read_again(open_page: OpenPage, tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    begin(store, "growing")
    app = open_page("runs")
    assert metrics(app)["Accuracy now"] == "-"
    learn(store, "growing", "braincl", tasks=2)
    app.sidebar.button[0].click().run()
    assert metrics(app)["Accuracy now"] == percent(summarise(store, "growing").last_accuracy)


def test_curves_may_be_one_for_each_diagnosis_or_none(open_page: OpenPage, tmp_path: Path) -> None:
    build_example(tmp_path)
    app = open_page("accuracy", "memories")
    app.radio[0].set_value("diagnosis").run()
    assert not app.exception
    assert "blood: basophil" in app.main.multiselect[0].value
    app.main.multiselect[0].set_value([])
    app.toggle[0].set_value(False).run()
    assert not app.exception
    assert "No test scans have been counted" in words(app)


def test_the_threshold_decides_what_is_answered(open_page: OpenPage, tmp_path: Path) -> None:
    build_example(tmp_path)
    app = open_page("unknown", "memories")
    at_first = metrics(app)
    assert float(at_first["Known scans answered"].removesuffix(" %")) >= 95
    low, *_, high = (np.abs(EDGES["familiarity"] - float(o)).argmin() for o in app.select_slider[0].options)
    app.select_slider[0].set_value(int(low)).run()
    assert metrics(app)["Known scans answered"] == "100.0 %"
    assert metrics(app)["Far ones set aside"] == "0.0 %"
    app.select_slider[0].set_value(int(high)).run()
    assert metrics(app)["Known scans answered"] == "0.0 %"
    assert metrics(app)["Right when answered"] == "-"
    assert metrics(app)["Near ones set aside"] == "100.0 %"


def test_unknown_scans_after_every_task(open_page: OpenPage, tmp_path: Path) -> None:
    build_example(tmp_path)
    app = open_page("unknown", "memories")
    for task in range(3):
        for score in ("familiarity", "energy", "max-softmax"):
            app.main.selectbox[0].set_value(task)
            app.main.selectbox[1].set_value(score).run()
            assert not app.exception, (task, score)
            assert (metrics(app)["Near ones set aside"] == "-") == (task == 2)


def test_a_group_that_was_begun_and_not_tested_is_said_to_be_missing_from_what_is_kept(
    open_page: OpenPage, tmp_path: Path
) -> None:
    store = RunStore(tmp_path, create=True)
    for name, begun in (("interrupted", 1), ("tested", 0)):
        begin(store, name)
        store.record_evaluation(name, 0, "a", np.diag([5, 5]), {}, {"cues": 1000, "records": 1200})
        store.record_step(name, Step(begun, 0, "encode", 0, 1.0, 0, 100, None, 600, ("a",), {}))
    for name, told in (("interrupted", True), ("tested", False)):
        app = open_page("memory", name)
        assert "1,200 samples are kept after the latest group that was tested" in words(app)
        assert ("Group 2 was begun and is not tested yet" in words(app)) == told


def test_reading_changes_nothing(open_page: OpenPage, tmp_path: Path) -> None:
    store = build_example(tmp_path)
    before = store.path.read_bytes()
    for page in PAGES:
        open_page(page)
    assert store.path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [STORE_NAME]


def test_text_of_others_is_shown_as_it_is() -> None:
    assert plain("![x](http://a.b/c.png)") == r"\!\[x\]\(http\://a\.b/c\.png\)"
    assert plain("<b>_a_\n# b") == r"\<b\>\_a\_ \# b"
    assert plain(":material/error: é – 5 % `x` -") == r"\:material/error\: é – 5 % \`x\` \-"


def test_the_dashboard_imports_no_training_code() -> None:
    script = (
        "import sys, runpy, apps.dashboard.data, apps.dashboard.frame, apps.dashboard.charts, apps.dashboard.launch\n"
        "from pathlib import Path\n"
        "import apps.dashboard.views\n"
        "for page in Path(apps.dashboard.views.__file__).parent.glob('[a-z]*.py'):\n"
        "    try: runpy.run_path(str(page))\n"
        "    except BaseException: pass\n"
        "heavy = {'torch', 'torchvision', 'flwr', 'monai', 'medmnist', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert 'braincl_med.evaluation.intervals' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_missing_package_is_named_with_what_to_do() -> None:
    code = "import sys; sys.modules['streamlit'] = None; from apps.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "dashboard"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs the package 'streamlit'" in done.stderr
    assert "pip install '.[dashboard" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_stays_on_this_machine() -> None:
    line = command(Path("/var/lib/braincl"), 8600)
    assert line[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert Path(line[4]).is_file()
    assert {"--server.address=127.0.0.1", "--browser.gatherUsageStats=false", "--server.port=8600"} <= set(line)
    assert line[-3:] == ["--", "--state", "/var/lib/braincl"]
    assert not any("server.port" in word for word in command(Path("/var/lib/braincl"), None))


def test_a_changed_store_leaves_no_copy_of_its_former_state(open_page: OpenPage, tmp_path: Path) -> None:
    store = build_example(tmp_path)
    seen = set()
    for change in range(3):
        store.record_evaluation("memories", 2, "site-0", np.diag([10 + change] * 6), {}, {})
        app = open_page("ready", "memories")
        assert not app.exception
        seen.add(str(app.dataframe[0].value["Test scans"].tolist()))
        _, held = data._held()["memories"]
        assert held.tally.scans[-1, 0].tolist() == [10 + change] * 6
    assert len(seen) == 3


def test_long_texts_of_others_are_cut_before_they_are_kept(open_page: OpenPage, tmp_path: Path) -> None:
    store, long = build_example(tmp_path), "scan\n\x1b[2J" + "x" * 10_000
    (vault,) = AUDIT["vaults"][1:]
    check = {"check": long, "passed": False, "detail": long}
    file = {"file": long, "bytes": 1, "records": 1, "bits-per-scan": 1.0}
    whole = {**vault, "vault": long, "experiments": ["memories", long], "checks": [check], "files": [file]}
    store.record_audit(False, {"vaults": [whole]})
    store.end("memories", "failed", long)
    kept = store.last_audit()
    assert kept is not None
    assert len(str(kept.report)) < 4000
    assert "\x1b" not in store.experiment("memories").message
    for page, most in (("privacy", 6000), ("ready", 6000)):
        app = open_page(page, "memories")
        assert not app.exception
        said = words(app)
        assert "x" * 400 in said
        assert "x" * 2000 not in said
        assert len(said) < most


def test_every_chart_says_what_it_shows(open_page: OpenPage, tmp_path: Path) -> None:
    build_example(tmp_path)
    drawn = 0
    for page in FIGURES:
        for chart in open_page(page, "memories").get("vega_lite_chart"):
            said = json.loads(chart.proto.spec).get("description", "")
            assert len(said) > 20, page
            drawn += 1
    assert drawn >= 8


@pytest.mark.parametrize(
    ("theme", "expected"), [("dark", charts.INK_ON_DARK), ("light", charts.INK), (None, charts.INK)]
)
def test_words_in_charts_are_read_on_either_background(
    theme: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts.st, "context", SimpleNamespace(theme=SimpleNamespace(type=theme)))
    rows = pd.DataFrame({"name": ["a"], "share": [0.5], "low": [0.4], "high": [0.6], "text": ["5 of 10"]})
    assert [layer.get("mark", {}).get("color") for layer in charts.intervals(rows, "name", "x").to_dict()["layer"]][
        -1
    ] == expected
    curves = pd.DataFrame([{"x": "1", "y": 0.5, "of": str(n)} for n in range(8)])
    drawn = charts.curves(curves, "x", "y", "of", [str(n) for n in range(8)], "x", "y").to_dict()
    assert drawn["layer"][0]["encoding"]["stroke"]["scale"]["range"][6] == expected


def test_tables_of_figures_can_be_taken_along(open_page: OpenPage, tmp_path: Path) -> None:
    build_example(tmp_path)
    for page, number in (("runs", 1), ("memory", 2), ("unknown", 1), ("add", 0)):
        assert len(open_page(page, "memories").get("download_button")) == number, page


def test_pages_follow_the_readers_theme() -> None:
    line = command(Path("/var/lib/braincl"))
    assert not any(word.startswith("--theme.base") for word in line)
    assert any(word.startswith("--theme.dark.primaryColor=") for word in line)
