"""Who gets in, on loopback with TLS, node keys and three SuperNodes: strangers, other apps, who comes and goes."""

import signal

import httpx
import pytest

from apps.cli.launcher import assemble_app
from apps.deploy import proxy, watch
from apps.deploy.enrol import flwr_of
from braincl_med.federation.extend import add_task
from tests.deploy.drills.federation import DRILL, HOSPITALS, LONGEST_SECONDS, SMALL, reason_of, wait

pytestmark = DRILL
TASK = "name: tasks, tasks: [{name: first, classes: [phantom-smear/0, phantom-smear/1]}]"
ONE_TASK = SMALL.replace("name: phantom, task-count: 1", TASK)
DEADLINE_SECONDS = 30
PROXIED = pytest.mark.skipif(proxy.program() is None, reason="nginx is not installed")


def test_the_operator_is_told_which_hospitals_are_there(federation, monkeypatch):
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.0)
    looking = watch.Watch(federation.folder / "server", federation.server)
    assert looking.changes() == [f"{hospital} is there" for hospital in HOSPITALS]


@PROXIED
def test_a_stranger_with_address_and_authority_gets_in_nowhere(federation):
    from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, StartRunRequest
    from flwr.proto.runtime_pb2 import AcquireTaskRequest
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supercore.runtime import RuntimeHttpClient

    authority = (federation.folder / "hospital-1" / "ca.crt").read_bytes()

    def status(kind, port, call, request):
        version = [RuntimeVersionHttpInterceptor(component_name="SuperExec")]
        with kind.from_server_address(f"127.0.0.1:{port}", False, authority, interceptors=version) as client:
            try:
                getattr(client, call)(request)
            except httpx.HTTPStatusError as error:
                return error.response.status_code
        return 200

    port, task = federation.server.port, AcquireTaskRequest(supported_task_types=["flwr-serverapp"])
    assert status(ControlHttpClient, federation.server.local_port, "ListNodes", ListNodesRequest()) == 200
    assert status(ControlHttpClient, port, "ListNodes", ListNodesRequest()) == 403
    assert status(ControlHttpClient, port, "RegisterNode", RegisterNodeRequest(public_key=b"x")) == 403
    assert status(ControlHttpClient, port, "StartRun", StartRunRequest()) == 403
    assert status(RuntimeHttpClient, port, "AcquireTask", task) == 403
    assert status(RuntimeHttpClient, federation.server.local_port, "AcquireTask", task) == 401


def test_a_changed_app_is_refused_by_every_hospital(federation, tmp_path, monkeypatch):
    def changed(folder):
        assemble_app(folder)
        with (folder / "client" / "app.py").open("a") as file:
            file.write(f"\nopen({str(tmp_path / 'was here')!r}, 'w').close()\n")
        return folder

    monkeypatch.setattr("apps.deploy.submit.assemble_app", changed)
    reason = reason_of(federation.run(name="changed"))
    assert "another app" in reason, reason
    assert not (tmp_path / "was here").exists()
    assert not any(federation.vault(hospital, "changed").exists() for hospital in HOSPITALS)


def test_another_app_is_refused_by_every_hospital(federation, tmp_path):
    """A server that speaks to the hospitals with a program of its own gets reports of refusal and nothing done."""
    app = tmp_path / "app"
    (app / "other").mkdir(parents=True)
    (app / "pyproject.toml").write_text(OTHER_PROJECT)
    (app / "other" / "__init__.py").write_text("")
    mark, told = tmp_path / "was here", tmp_path / "told"
    (app / "other" / "client.py").write_text(OTHER_CLIENT.format(mark=str(mark)))
    (app / "other" / "server.py").write_text(OTHER_SERVER.format(told=str(told)))
    flwr_of(federation.folder / "server", federation.server).submit(app)
    wait(told.is_file, "the other app's server", 120)
    assert told.read_text().count("another app") == len(HOSPITALS), told.read_text()
    assert not mark.exists()


def test_one_that_joins_later_is_too_late_in_sleep_and_away_after_it(federation):
    federation.stop("hospital-3")
    alone = federation.run(ONE_TASK, name="joins", federation_hospitals=2)
    assert "has learned all 1 tasks" in alone.result(LONGEST_SECONDS)
    add_task(federation.state, "joins", "second", ["phantom-xray/0", "phantom-xray/1"])
    federation.start("hospital-3")
    run = federation.run(
        ONE_TASK, name="joins", federation_hospitals=3, federation_quorum=2, federation_wait_seconds=5,
        federation_round_timeout_seconds=DEADLINE_SECONDS,
    )  # fmt: skip
    federation.during("sleep", "hospital-3", "joins", task=1)
    stopped = federation.tasks("hospital-3")
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    sleep = wait(lambda: federation.steps("joins", 1)[3:], "sleep without hospital-3")[0]
    assert (sleep.phase, sleep.hospitals, list(sleep.missing)) == ("sleep", HOSPITALS[:2], ["hospital-3"])
    assert sleep.seconds < DEADLINE_SECONDS + 20, "it was Flower, after a minute, that gave hospital-3 up"
    for process in stopped:
        process.send_signal(signal.SIGCONT)
    wait(lambda: not any(process.is_running() for process in stopped), "the late answer")
    federation.stop("hospital-3")
    assert "has learned all 2 tasks" in run.result(LONGEST_SECONDS)
    federation.start("hospital-3")
    federation.require_sound("joins")
    steps = federation.steps("joins", 1)
    assert steps[0].hospitals == HOSPITALS
    assert steps[3] == sleep, "the late answer changed what was recorded"
    assert steps[-1].hospitals == HOSPITALS[:2]
    assert [len(federation.result("joins")[1][hospital]) for hospital in HOSPITALS] == [2, 2, 1]


OTHER_PROJECT = """
[project]
name = "other"
version = "1.0.0"
[tool.flwr.app]
publisher = "stranger"
[tool.flwr.app.components]
serverapp = "other.server:app"
clientapp = "other.client:app"
[tool.flwr.app.config]
x = ""
"""
OTHER_CLIENT = """
from flwr.clientapp import ClientApp
open({mark!r}, "w").close()
app = ClientApp()
"""
OTHER_SERVER = """
import time
from pathlib import Path
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    while len(nodes := list(grid.get_node_ids())) < 3:
        time.sleep(1)
    content = RecordDict({{"weights": ArrayRecord({{}}), "order": ConfigRecord({{"json": "{{}}"}})}})
    asked = [Message(content, dst_node_id=node, message_type="train.encode") for node in nodes]
    answers = grid.send_and_receive(asked, timeout=90)
    Path({told!r}).write_text("\\n".join(str(a.content.config_records["report"]["json"]) for a in answers))
"""
