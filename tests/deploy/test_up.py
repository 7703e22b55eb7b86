"""Programs are started, watched and ended together; the SuperLink knows the keys in `nodes/`, and no others."""

import os
import sys

import psutil
import pytest
from typer.testing import CliRunner

from apps.cli.main import app
from apps.deploy import enrol as enrolment
from apps.deploy import up
from apps.deploy.layout import read_settings
from apps.deploy.renew import renew
from apps.flower.command import Flwr
from braincl_med.foundation.errors import FederationError

SLEEP = "import time; time.sleep(600)"
LASTS = [
    sys.executable,
    "-S",
    "-c",
    f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', '{SLEEP}'])",
]
ENDS = [sys.executable, "-S", "-c", "print('last words'); raise SystemExit(0)"]


def lives(process):
    """Whether it runs; one that nobody has collected yet does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def commands(monkeypatch):
    """Stand-ins for the programs, by part."""
    chosen = {"supernode": LASTS, "app": LASTS}
    monkeypatch.setattr(up, "prepared", lambda part, folder, settings: (chosen[part.name], dict(os.environ)))
    return chosen


def test_whatever_ends_is_named_and_started_again_and_in_the_end_all_end(folder, commands, monkeypatch):
    commands["app"] = ENDS
    seen = []
    said = []
    others = psutil.Process().children(recursive=True)

    def look(line):
        said.append(line)
        seen.extend(process for process in psutil.Process().children(recursive=True) if process not in others)

    monkeypatch.setattr(up, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(up, "TRIES", 2)
    monkeypatch.setattr(up, "LOOK_SECONDS", 0.05)
    with pytest.raises(FederationError, match=r"hospital-1: app ended with status 0.*app\.log"):
        up.up(folder / "hospital-1", look)
    assert sum("started again" in line for line in said) == 2
    assert seen
    _, alive = psutil.wait_procs(seen, timeout=20)
    assert not alive
    log = folder / "hospital-1" / "state" / "logs" / "app.log"
    assert log.read_text() == 3 * "last words\n"
    assert not log.stat().st_mode & 0o077


def test_a_part_that_cannot_start_leaves_nothing_behind(folder, commands):
    commands["app"] = ["/nowhere/at-all"]
    before = set(psutil.Process().children())
    with pytest.raises(FileNotFoundError):
        up.Running(folder / "hospital-1").__enter__()
    assert set(psutil.Process().children()) <= before


def test_an_unknown_part_is_named_with_those_that_there_are(folder):
    done = CliRunner().invoke(app, ["deploy", "up", str(folder / "hospital-1"), "--only", "superlink"])
    assert done.exit_code == 1
    assert "it has supernode, app" in str(done.exception)


class Link(Flwr):
    """The `flwr` command with a SuperLink's answers: nodes by id."""

    def __init__(self):
        self.enrolled, self.count = {}, 0

    def _json(self, _, verb, *arguments):
        if verb == "list":
            return {"nodes": [{"node-id": node, "status": "online"} for node in self.enrolled]}
        if verb == "unregister":
            return {"success": self.enrolled.pop(arguments[0], None) is not None}
        with open(arguments[0]) as file:
            key = file.read()
        if key in self.enrolled.values():
            return {"success": False, "error-message": "in use"}
        self.count += 1
        self.enrolled[str(self.count)] = key
        return {"success": True, "node-id": self.count}


@pytest.fixture
def link(monkeypatch):
    link = Link()
    monkeypatch.setattr(enrolment, "flwr_of", lambda *_: link)
    return link


def test_enrolment_follows_the_keys_that_lie_in_the_folder(folder, link):
    place = folder / "server"
    server = read_settings(place)

    def keys():
        return sorted(path.read_text() for path in (place / "nodes").glob("*.pub"))

    assert len(enrolment.enrol(place, server)) == 2
    assert enrolment.enrol(place, server) == []
    assert sorted(link.enrolled.values()) == keys()
    renew(folder, ["hospital-1"])
    assert len(enrolment.enrol(place, server)) == 2
    assert sorted(link.enrolled.values()) == keys(), "the former key counts no longer"
    (place / "nodes" / "hospital-2.pub").unlink()
    enrolment.enrol(place, server)
    assert sorted(link.enrolled.values()) == keys()
    link.enrolled.clear()
    enrolment.enrol(place, server)
    assert sorted(link.enrolled.values()) == keys(), "a SuperLink that has lost its database is told again"
