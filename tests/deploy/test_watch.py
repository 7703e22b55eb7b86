"""What an operator is told of the SuperLink and of the hospitals that are in touch with it."""

import contextlib
from types import SimpleNamespace

import httpx
import pytest
from flwr.proto.control_pb2 import ListNodesResponse
from flwr.proto.node_pb2 import NodeInfo

from apps.deploy import watch as watching
from apps.deploy.layout import read_settings


@pytest.fixture
def link(monkeypatch):
    """A SuperLink that tells of the nodes in `statuses`, or raises what is there instead."""
    link = SimpleNamespace(statuses={}, asked=[])

    @contextlib.contextmanager
    def connected(address, insecure, authority, **_):
        link.asked.append((address, insecure, authority))
        if isinstance(link.statuses, Exception):
            raise link.statuses
        nodes = [NodeInfo(name=name, status=status) for name, status in link.statuses.items()]
        yield SimpleNamespace(ListNodes=lambda _: ListNodesResponse(nodes_info=nodes))

    monkeypatch.setattr(watching, "ControlHttpClient", SimpleNamespace(from_server_address=connected))
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.0)
    return link


def test_hospitals_that_come_and_go_and_a_superlink_that_is_silent_are_told_once(folder, link):
    server = read_settings(folder / "server")
    watch = watching.Watch(folder / "server", server)
    link.statuses = {"hospital-1": "online", "hospital-2": "offline", "former": "unregistered"}
    assert watch.changes() == ["hospital-1 is there"]
    link.statuses = {"hospital-1": "online", "hospital-2": "online"}
    assert watch.changes() == ["hospital-2 is there"]
    link.statuses = httpx.ConnectError("refused")
    (silent,) = watch.changes()
    assert "does not answer (ConnectError)" in silent
    assert watch.changes() == []
    link.statuses = {"hospital-1": "offline", "hospital-2": "online"}
    assert watch.changes() == ["the SuperLink answers again", "hospital-1 is away: no sign of life for a minute"]
    assert {asked[1] for asked in link.asked} == {False}
    assert {asked[2] for asked in link.asked} == {(folder / "server" / "ca.crt").read_bytes()}


def test_it_looks_from_time_to_time(folder, link, monkeypatch):
    monkeypatch.setattr(watching, "LOOK_SECONDS", 1000.0)
    watch = watching.Watch(folder / "server", read_settings(folder / "server"))
    assert watch.changes() == []
    assert link.asked == []
