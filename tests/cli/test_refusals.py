"""What the operating system refuses: one sentence, no folder, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from apps.cli.main import main
from apps.cli.refusals import in_one_sentence
from braincl_med.federation.checkpoint import NAME, folder_of
from braincl_med.settings.config import ExperimentConfig


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """What `braincl …` says when it ends with 1."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["braincl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        answered, said = capsys.readouterr()
        assert answered == ""
        assert ended.value.code == 1
        assert said.startswith("braincl: ")
        assert said.count("\n") == 1
        assert str(tmp_path) not in said
        return said

    return call


@pytest.fixture
def homeless(monkeypatch):
    """A user without a home folder."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("BRAINCL_STATE", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)


@pytest.mark.parametrize("command", [["results"], ["run", "quick"], ["tasks", "list", "demo"]])
def test_a_user_without_a_home_is_told_to_name_a_state_root(refused, homeless, command):
    assert "name a folder with --state or BRAINCL_STATE" in refused(*command)


def test_a_state_root_that_cannot_be_written_is_named_by_its_role(refused, tmp_path):
    (tmp_path / "file").touch()
    said = refused("run", "quick", "--state", tmp_path / "file" / "state")
    assert "the state root 'state', which keeps checkpoints, vaults and records, cannot be written" in said
    assert "--state" in said


@pytest.mark.parametrize(
    ("command", "rest"),
    [(["run"], []), (["scans", "export"], ["--site", "0", "--out", "x.npz"]), (["bench"], []), (["audit"], [])],
)
def test_a_name_of_300_characters(refused, tmp_path, command, rest):
    said = refused(*command, tmp_path / ("a" * 300), *rest)
    assert ("file name too long" if command == ["audit"] else "give a YAML file or one of: ") in said
    assert "a" * 100 not in said or command == ["audit"]
    assert len(said) < 500


def test_an_unreadable_checkpoint(refused, tmp_path, monkeypatch):
    folder = folder_of(tmp_path, "demo")
    folder.mkdir(parents=True)
    (folder / NAME).touch()

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", denied)
    said = refused("tasks", "list", "demo", "--state", tmp_path)
    assert f"'{NAME}' cannot be read: permission denied" in said


def test_anything_else_that_is_refused(refused, monkeypatch, tmp_path):
    for error, expected in (
        (PermissionError(13, "Permission denied", str(tmp_path / "vault" / "manifest.json")), "'manifest.json'"),
        (RuntimeError(f"PytorchStreamReader failed reading {tmp_path}/net.pt\nmore"), "failed reading net.pt"),
        (OSError("no number"), "no number"),
    ):

        def broken(self, error=error):
            raise error

        monkeypatch.setattr(ExperimentConfig, "state_folder", property(broken))
        if isinstance(error, OSError):
            assert expected in refused("results")
        assert expected in in_one_sentence(error)


MEDMNIST = ("stream-name=medmnist", "stream-sets=breastmnist", "stream-task-count=2")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["run", "quick", "-c", "sleep-epoch=3"], "unknown key 'sleep-epoch'"),
        (["run", "quick", "-c", "sleep-epochs"], "'sleep-epochs' sets nothing"),
        (["run", "nowhere"], "no experiment 'nowhere'"),
        (["run", "quick", *(word for key in MEDMNIST for word in ("-c", key))], "breastmnist.npz"),
        (["results", "nobody"], "no run store"),
    ],
)
def test_a_wrong_key_a_truncated_file_and_a_missing_experiment(refused, monkeypatch, tmp_path, arguments, reason):
    data = tmp_path / "data"
    data.mkdir()
    (data / "breastmnist.npz").write_bytes(b"PK\x03\x04 cut short")
    monkeypatch.setenv("BRAINCL_DATA", str(data))
    assert reason in refused(*arguments, "--state", tmp_path / "state")


def test_an_audit_of_a_missing_folder(refused, tmp_path):
    said = refused("audit", tmp_path / "site-9")
    assert said == "braincl: there is no folder 'site-9': give a hospital's vault or one experiment's folder\n"


def test_the_installed_program_says_so_too(tmp_path):
    program = Path(sys.executable).parent / "braincl"
    environment = {**os.environ, "BRAINCL_STATE": str(tmp_path)}
    done = subprocess.run([program, "results"], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("braincl: no run store 'runs.sqlite'")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot open /a/b c/d.npz", "cannot open b c/d.npz"),
        ("see https://zenodo.org/records/1", "see https://zenodo.org/records/1"),
        ("1/2 of the scans", "1/2 of the scans"),
        ("'/a/b/c'", "'c'"),
        ("~/x/y", "y"),
    ],
)
def test_folders_are_cut_out_of_what_libraries_say(text, expected):
    assert in_one_sentence(RuntimeError(text)) == f"it cannot go on: {expected} (RuntimeError)"


def test_what_is_no_refusal_is_not_hidden(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["braincl", "results"])
    monkeypatch.setattr("apps.cli.main.state_root", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main()
