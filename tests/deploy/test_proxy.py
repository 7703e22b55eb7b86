"""What the proxy lets through: what a registered SuperNode asks for, however other paths are spelt."""

import http.server
import re
import socket
import ssl
import subprocess
import threading

import pytest

from apps.deploy import proxy
from apps.deploy.layout import Server
from apps.flower.programs import FLEET, FLEET_ROOT
from tests.server.test_supernodes import answers, free_ports, within

SELF_SERVICE = {"register-node", "unregister-node"}
"""What Flower itself refuses where nodes have keys."""
ALLOWED = re.compile(r"location = (\S+) \{ proxy_pass (https://127\.0\.0\.1:\d+)(\S+); \}")


def settings(port, local_port):
    made = {"braincl-med": "1", "flwr": "1", "python": "3.11"}
    return Server.model_validate(
        {
            "role": "server", "host": "127.0.0.1", "port": port, "local-port": local_port, "state": "state",
            "proxy": True, "hospitals": 1, "made-with": made,
        }
    )  # fmt: skip


def test_it_lets_through_all_that_flowers_nodes_ask_for_and_nothing_else():
    from flwr.superlink.routers.fleet.router import router

    flowers = {route.path for route in router.routes} - {FLEET_ROOT + name for name in SELF_SERVICE}
    found = ALLOWED.findall(proxy.configuration(settings(42000, 42001)))
    assert {asked for asked, _, _ in found} == flowers
    assert all(asked == given for asked, _, given in found)
    assert {address for _, address, _ in found} == {"https://127.0.0.1:42001"}


class Seen(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def nginx(folder):
    """The proxy before a stand-in for the SuperLink: how it answers a path, and what the SuperLink saw."""
    port, local_port = free_ports(2)
    server = folder / "server"
    (server / "nginx.conf").write_text(proxy.configuration(settings(port, local_port)))
    link = http.server.ThreadingHTTPServer(("127.0.0.1", local_port), Seen)
    link.seen = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(server / "server.pem", server / "server.key")
    link.socket = tls.wrap_socket(link.socket, server_side=True)
    threading.Thread(target=link.serve_forever, daemon=True).start()
    running = subprocess.Popen(proxy.command(server, settings(port, local_port)))
    trust = ssl.create_default_context(cafile=str(server / "ca.crt"))

    def status(path):
        """The status of the answer to `path` as it stands, which no client library would send."""
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            trust.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(f"POST {path} HTTP/1.0\r\nContent-Length: 0\r\n\r\n".encode())
            return int(secure.makefile("rb").readline().split()[1])

    try:
        assert within(20, lambda: answers(port))
        yield status, link.seen
    finally:
        running.terminate()
        running.wait()
        link.shutdown()
        link.server_close()


@pytest.mark.skipif(proxy.program() is None, reason="nginx is not installed")
def test_hospitals_reach_the_fleet_interface_alone(nginx):
    status, seen = nginx
    assert [status(FLEET_ROOT + name) for name in FLEET] == [200] * len(FLEET)
    assert seen == [FLEET_ROOT + name for name in FLEET]
    seen.clear()
    for path in (
        "/", "/health", "/docs", "/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/acquire-task",
        "/v1/fleet/register-node", "/v1/fleet/", "//v1/control/start-run", "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run", "/v1/fleet/get-run/../../control/start-run", "/v1/Fleet/get-run",
        "/v1/runtime/acquire-task?/v1/fleet/get-run", "/v1/runtime/acquire-task%00/v1/fleet/get-run",
    ):  # fmt: skip
        assert status(path) in (400, 403), path
    assert seen == []


@pytest.mark.skipif(proxy.program() is None, reason="nginx is not installed")
def test_a_path_that_is_spelt_otherwise_is_handed_on_as_the_allowed_one(nginx):
    status, seen = nginx
    assert status("/v1/control/%2e%2e/fleet/get-run") == 200
    assert seen == ["/v1/fleet/get-run"]
