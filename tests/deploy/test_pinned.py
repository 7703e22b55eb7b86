"""A hospital answers with the app that it has installed, whatever the server sends."""

import contextlib
import io
import json
import os
import signal
import time
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace

import psutil
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskResponse
from flwr.proto.task_pb2 import Task
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.cli.launcher import assemble_app
from apps.deploy import pinned
from braincl_med.foundation.errors import ConfigError


def packed(files, compression=zipfile.ZIP_DEFLATED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, text in files:
            archive.writestr(name, text)
    return content.getvalue()


NAMES = st.text("abc/.", min_size=1, max_size=8)


@settings(max_examples=50)
@given(files=st.dictionaries(NAMES, st.binary(max_size=20), min_size=1, max_size=4), data=st.data())
def test_the_digest_is_that_of_names_and_contents_however_packed(files, data):
    first = pinned.digest_of(packed(files.items()))
    assert pinned.digest_of(packed(reversed(files.items()), zipfile.ZIP_STORED)) == first
    name = data.draw(st.sampled_from(sorted(files)))
    assert pinned.digest_of(packed([*(files | {name: files[name] + b"x"}).items()])) != first
    assert pinned.digest_of(packed([*files.items(), ("new.py", b"")])) != first
    assert pinned.digest_of(packed([item for item in files.items() if item[0] != name])) != first


@pytest.mark.parametrize("sent", [b"", b"PK\x03\x04", packed([("a.py", b"x")])[:-5]])
def test_what_is_no_app_is_refused(sent):
    with pytest.raises(ConfigError, match="cannot be read"):
        pinned.digest_of(sent)


def test_an_app_that_unpacks_to_too_much_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(pinned, "MOST_BYTES", 1000)
    with pytest.raises(ConfigError, match="larger"):
        pinned.digest_of(packed([("a.py", b"x" * 1001)]))


@pytest.fixture
def message(monkeypatch):
    monkeypatch.setattr(TaskIdentity, "_run_id", 1)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1)
    monkeypatch.setattr(TaskIdentity, "_task_id", 1)
    content = RecordDict({"weights": ArrayRecord({}), "order": ConfigRecord({"json": "{}"})})
    asked = Message(content, dst_node_id=1, message_type="train.encode")
    asked.metadata.__dict__["_message_id"] = "1"
    return asked


def failure(reply):
    return json.loads(str(reply.content.config_records["report"]["json"]))["failure"]


def test_a_changed_app_is_refused_and_the_installed_one_is_asked(tmp_path, message, monkeypatch):
    asked = []
    monkeypatch.setattr(pinned, "app", lambda message, context: asked.append(message) or "answer")
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    assembled = assemble_app(tmp_path / "app")
    sent = build_fab_from_disk(assembled)
    assert pinned.answer_of(message, context, sent, pinned.installed_digest(), "st-elsewhere") == "answer"
    (assembled / "client" / "app.py").write_text("import os\n")
    changed = build_fab_from_disk(assembled)
    reply = pinned.answer_of(message, context, changed, pinned.installed_digest(), "st-elsewhere")
    assert len(asked) == 1
    assert "another app" in failure(reply)


class SuperNode:
    """A SuperNode's tasks: tokens that are handed out once, what it was told, and the test's end when all are out."""

    def __init__(self, *tokens):
        self.tokens, self.told = list(tokens), []

    def AcquireTask(self, _):
        if not self.tokens:
            raise KeyboardInterrupt
        return AcquireTaskResponse(task=Task(task_id=1), token=self.tokens.pop(0)())

    @contextlib.contextmanager
    def connected(self, address, interceptor, *, retried=True):
        yield SimpleNamespace(
            AcquireTask=self.AcquireTask,
            PushTaskOutput=lambda output: self.told.append((interceptor._token, output.sub_status)),
        )


def test_a_task_that_never_ends_gives_way_to_the_next_one_and_is_not_answered_later(folder, tmp_path, monkeypatch):
    def work(address, token, digest, hospital):
        (tmp_path / token).write_text(str(os.getpid()))
        time.sleep(600 if token == "stuck" else 0)

    def begun(name):
        wait(lambda: (tmp_path / name).exists() and (tmp_path / name).read_text(), name)
        return psutil.Process(int((tmp_path / name).read_text()))

    def after_stuck():
        seen.append(begun("stuck"))
        return "next"

    def after_next():
        worked = begun("next")
        wait(lambda: worked.status() == psutil.STATUS_ZOMBIE, "the end of next")
        return ""

    seen = []
    node = SuperNode(lambda: "stuck", after_stuck, after_next, lambda: "last")
    monkeypatch.setattr(pinned, "_connected", node.connected)
    monkeypatch.setattr(pinned, "work", work)
    with pytest.raises(KeyboardInterrupt):
        pinned.serve(folder / "hospital-1")
    assert not seen[0].is_running()
    assert node.told == [("stuck", SubStatus.FAILED)], "a task that gave its answer is not taken back"


class Refusing(BaseHTTPRequestHandler):
    """A SuperNode that knows a task's token no more."""

    def do_POST(self):
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_giving_up_what_was_answered_meanwhile_leaves_the_executor_alive(monkeypatch):
    monkeypatch.setattr(pinned, "work", lambda *_: time.sleep(600))
    with HTTPServer(("127.0.0.1", 0), Refusing) as node:
        Thread(target=node.serve_forever, daemon=True).start()
        given_up = pinned.Work(f"127.0.0.1:{node.server_port}", "token", "digest", "st-elsewhere")
        given_up.give_up()
        node.shutdown()
    assert given_up.process.exitcode == -signal.SIGKILL


def wait(holds, what):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
