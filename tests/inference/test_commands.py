"""`braincl predict` and `braincl export` as they are called."""

import csv
import io
import json
import sys

import pytest

from apps.cli.main import main
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, load_weights, save_checkpoint
from braincl_med.inference.table import COLUMNS
from braincl_med.records.store import RunStore


@pytest.fixture
def braincl(monkeypatch, capfdbinary):
    """Exit status, standard output and standard error of a command."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["braincl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()  # Typer ends every command so, also one that succeeds.
        out, err = capfdbinary.readouterr()
        return ended.value.code or 0, out, err.decode()

    return call


def test_csv_and_json_say_the_same_and_every_file_has_a_row(used, braincl, tmp_path):
    status, out, err = braincl("predict", "tiny", used.scans, "--state", used.state)
    rows = list(csv.DictReader(io.StringIO(out.decode())))
    assert (status, tuple(rows[0])) == (0, COLUMNS)
    assert len(rows) == 25
    assert err.splitlines()[-1].startswith("25 files: ")
    assert "1 refused" in err
    done = braincl(
        "predict", used.folder, used.scans, "--format", "json", "--out", tmp_path / "out.json", "--state", tmp_path
    )
    assert done[:2] == (0, b"")
    told = json.loads((tmp_path / "out.json").read_bytes())
    assert (told["format"], told["caution"]) == ("braincl-answers", None)
    assert told["operating-point"]["scans"] == 180
    for row, scan in zip(rows, told["scans"], strict=True):
        assert (row["file"], row["verdict"]) == (scan["file"], scan["verdict"])
        if "refused" in scan:
            assert row["reason"] == f"{scan['refused']['kind']}: {scan['refused']['reason']}"
            assert row["class"] == ""
        else:
            assert (row["class"], row["name"]) == (scan["class"], scan["name"])
            assert float(row["probability"]) == scan["probability"] == scan["top"][0]["probability"]
            assert float(row["score"]) == scan["score"]
            assert row["third"] == scan["top"][2]["class"]
    unknown = {row["verdict"] for row in rows if "phantom-fundus" in row["file"]}
    assert unknown == {"unknown: for a person to read"}


def test_overlays_are_written_and_named(used, braincl, tmp_path):
    file = next(used.scans.glob("phantom-xray*"))
    _, out, _ = braincl("predict", "tiny", file, "--state", used.state, "--explain", tmp_path / "why")
    (row,) = csv.DictReader(io.StringIO(out.decode()))
    assert [p.name for p in (tmp_path / "why").iterdir()] == [row["overlay"]]


def test_the_exit_status_says_whether_files_were_refused(used, braincl, tmp_path):
    broken, good = used.scans / "broken.png", next(used.scans.glob("phantom-xray*"))
    for arguments, expected in (
        ([broken], 1),
        ([broken, good], 0),
        ([broken, good, "--strict"], 1),
        ([good, "--strict"], 0),
    ):
        assert braincl("predict", "tiny", *arguments, "--state", used.state)[0] == expected
    (tmp_path / "empty").mkdir()
    status, out, err = braincl("predict", "tiny", tmp_path / "empty", "--state", used.state)
    assert (status, out) == (1, b"")
    assert err == "braincl: there is no file to answer: name pictures, DICOM files or folders that hold some\n"


def test_no_scan_is_written_over(used, braincl, tmp_path, monkeypatch):
    good = next(used.scans.glob("phantom-xray*")).read_bytes()
    folder = tmp_path / "scans"
    (folder / "more").mkdir(parents=True)
    for file in (folder / "x.jpg", folder / "more" / "y.jpg", tmp_path / "z.jpg"):
        file.write_bytes(good)
    (tmp_path / "same.jpg").hardlink_to(tmp_path / "z.jpg")
    (tmp_path / "linked").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    before = sorted(p for p in tmp_path.rglob("*"))
    for arguments, reason in (
        (["z.jpg", "--out", "z.jpg"], "'z.jpg' (--out) is one of the scans"),
        (["z.jpg", "--out", "./scans/../z.jpg"], "'z.jpg' (--out) is one of the scans"),
        (["z.jpg", "--out", "same.jpg"], "'same.jpg' (--out) is one of the scans"),
        (["scans", "--out", "linked/x.jpg"], "'x.jpg' (--out) is one of the scans"),
        (["scans", "--out", "linked/answers.csv"], "'answers.csv' (--out) lies in a folder of scans"),
        (["z.jpg", "--explain", "."], "'.' (--explain) is there already"),
        (["scans", "--explain", "scans"], "'scans' (--explain) is or lies in a folder of scans"),
        (["linked", "--explain", "scans/more/why"], "'why' (--explain) is or lies in a folder of scans"),
        (["scans", "--explain", tmp_path], "(--explain) is there already"),
        (["scans", "--explain", "z.jpg"], "'z.jpg' (--explain) is there already"),
    ):
        status, out, err = braincl("predict", "tiny", *arguments, "--state", used.state)
        assert (status, out) == (1, b"")
        assert reason in err
    assert sorted(p for p in tmp_path.rglob("*")) == before
    assert {p.read_bytes() for p in before if p.is_file()} == {good}
    (tmp_path / "why").mkdir()
    status, _, _ = braincl(
        "predict", "tiny", "scans", "--state", used.state, "--explain", "why", "--out", "why/answers.csv"
    )
    assert status == 0


@pytest.mark.parametrize(
    "name", ["=1+1.png", "+1.png", "-1.png", "@a.png", "\t=1.png", "\r=1.png", "'=1.png", "a=1.png"]
)
def test_no_text_of_a_table_is_a_formula(used, braincl, tmp_path, monkeypatch, name):
    """And taking away what was put before gives it back."""
    (tmp_path / name).write_bytes(next(used.scans.glob("phantom-xray*")).read_bytes())
    monkeypatch.chdir(tmp_path)
    _, out, _ = braincl("predict", "tiny", "--state", used.state, "--", name)
    (row,) = csv.DictReader(io.StringIO(out.decode(), newline=""))
    assert row["file"][0] in "'a"
    assert row["file"].removeprefix("'") == name
    assert float(row["score"]) < 0
    _, out, _ = braincl("predict", "tiny", "--state", used.state, "--format", "json", "--", name)
    assert json.loads(out)["scans"][0]["file"] == name


def test_names_stand_as_they_were_given_also_those_that_are_no_utf8(used, braincl, tmp_path):
    good = next(used.scans.glob("phantom-xray*")).read_bytes()
    odd = tmp_path / b'a,"b"\xe9.png'.decode("utf-8", "surrogateescape")
    odd.write_bytes(good)
    _, out, _ = braincl("predict", "tiny", odd, "--state", used.state)
    (row,) = csv.DictReader(io.StringIO(out.decode("utf-8", "surrogateescape")))
    assert row["file"] == str(odd)
    _, out, _ = braincl("predict", "tiny", odd, "--state", used.state, "--format", "json")
    assert json.loads(out)["scans"][0]["file"] == str(odd)


def test_what_has_no_operating_point_or_no_memory_says_so(used, braincl, tmp_path):
    former = load_checkpoint(folder_of(used.state, "own"))
    without = former.model_copy(update={"operating": None})
    save_checkpoint(folder_of(tmp_path, "own"), without, load_weights(folder_of(used.state, "own"), former))
    good = next(used.scans.glob("phantom-xray*"))
    status, out, err = braincl("predict", "own", good, "--state", tmp_path)
    assert status == 0
    assert b"answered: neither calibrated nor checked for unknown scans" in out
    assert "braincl: this network has no operating point" in err
    _, out, err = braincl("predict", "own", good, "--state", used.state, "--format", "json")
    assert "carries no memory" in json.loads(out)["caution"]
    assert "carries no memory" in err


def test_export_says_what_it_wrote_and_predict_reads_it(used, braincl, tmp_path):
    status, out, _ = braincl("export", "tiny", tmp_path / "out", "--state", used.state)
    assert status == 0
    assert used.done.digest in out.decode()
    assert "ONNX answers 100 scans as PyTorch does" in out.decode()
    status, out, err = braincl("export", "tiny", tmp_path / "out", "--state", used.state)
    assert (status, out) == (1, b"")
    assert err == "braincl: 'out' is there already: name a new folder, or an empty one\n"
    (tmp_path / "out" / "card.md").write_text("better")
    status, out, err = braincl("predict", tmp_path / "out", used.scans, "--state", tmp_path)
    assert (status, out) == (1, b"")
    assert err == "braincl: 'card.md' was changed or damaged: its checksum does not match\n"


def test_a_missing_package_is_named(used, braincl, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    status, _, err = braincl("export", "tiny", tmp_path / "out", "--state", used.state)
    assert status == 1
    assert "onnxruntime" in err
    assert "export]" in err
    assert RunStore(used.state).experiments()
    assert not list(tmp_path.iterdir())
