"""`deploy check` names what was planted, and nothing where all is well."""

import datetime
import email.utils
import os
import socket
import ssl
import threading

import pytest
from typer.testing import CliRunner

from apps.cli.main import app
from apps.deploy.certificates import new_authority, server_certificate
from apps.deploy.checks.certificate import authority_finding, certificate_finding
from apps.deploy.checks.machine import (
    disk_finding,
    folder_finding,
    memory_finding,
    private_finding,
    scans_finding,
    version_findings,
)
from apps.deploy.checks.network import Answer, ask, clock_finding, connection_finding
from apps.deploy.layout import MadeWith

NOW = datetime.datetime.now(datetime.UTC)


def days(count):
    return NOW + datetime.timedelta(days=count)


@pytest.fixture(scope="module")
def authority():
    return new_authority("test")


@pytest.fixture(scope="module")
def pem(authority):
    return server_certificate(*authority, "server.example.org")[1]


@pytest.mark.parametrize(
    ("when", "host", "said"),
    [
        (days(0), "server.example.org", None),
        (days(0), "127.0.0.1", None),
        (days(398), "server.example.org", "has expired"),
        (days(380), "server.example.org", "it expires on"),
        (days(-1), "server.example.org", "begins to hold"),
        (days(0), "example.org", "not for example.org"),
    ],
)
def test_certificate(authority, pem, when, host, said):
    finding = certificate_finding(pem, authority[1], host, when)
    assert finding.ok == (said is None)
    assert (said or "holds until") in finding.seen


def test_a_certificate_of_another_authority_or_none(authority, pem):
    assert "another authority" in certificate_finding(pem, new_authority("test")[1], "127.0.0.1", NOW).seen
    assert "no certificate" in certificate_finding(b"x", authority[1], "127.0.0.1", NOW).seen
    assert authority_finding(authority[1], NOW).ok
    assert "has expired" in authority_finding(authority[1], days(3651)).seen


def test_a_closed_port_and_one_without_tls(written):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port, ca = listener.getsockname()[1], written / "hospital-1" / "ca.crt"
        assert "is closed" in connection_finding(ask("127.0.0.1", port, ca), "x").seen
        listener.listen()

        def answer_plainly():
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 400 no\r\n\r\n")
            connection.close()

        threading.Thread(target=answer_plainly, daemon=True).start()
        assert "does not speak TLS" in connection_finding(ask("127.0.0.1", port, ca), "x").seen


def test_a_server_of_another_authority(written, authority, tmp_path):
    key, certificate = server_certificate(*authority, "127.0.0.1")
    (tmp_path / "both.pem").write_bytes(key + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def shake_hands():
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(listener.accept()[0], server_side=True)

        thread = threading.Thread(target=shake_hands)
        thread.start()
        answer = ask("127.0.0.1", listener.getsockname()[1], written / "hospital-1" / "ca.crt")
        thread.join()
    assert "does not verify" in connection_finding(answer, "x").seen


def test_a_name_that_is_unknown_and_a_server_that_does_not_answer():
    assert "cannot be reached" in connection_finding(Answer(error=socket.gaierror(-2, "unknown")), "x").seen
    assert "does not answer" in connection_finding(Answer(error=TimeoutError()), "x").seen


@pytest.mark.parametrize(("ahead", "fine"), [(0, True), (-200, True), (60, False), (-400, False)])
def test_clock(ahead, fine):
    answer = Answer(date=email.utils.format_datetime(NOW))
    finding = clock_finding(answer, NOW + datetime.timedelta(seconds=ahead))
    assert finding is not None
    assert finding.ok is fine
    assert clock_finding(Answer(), NOW) is None


def test_versions():
    made = MadeWith.model_validate({"braincl-med": "0.1.0", "flwr": "1.41.0", "python": "3.11.7"})
    assert all(finding.ok for finding in version_findings(made, made.model_copy(update={"python": "3.11.9"})))
    for key, other in (("braincl_med", "0.2.0"), ("flwr", "1.43.0"), ("python", "3.12.1")):
        wrong = [f for f in version_findings(made, made.model_copy(update={key: other})) if not f.ok]
        assert len(wrong) == 1
        assert other.startswith(wrong[0].seen.split()[1].rstrip(","))


def test_folders(tmp_path, monkeypatch):
    folder = tmp_path / "vault"
    assert folder_finding("vault", folder).ok
    folder.mkdir(mode=0o700)
    assert folder_finding("vault", folder).ok
    folder.chmod(0o750)
    assert "other users" in folder_finding("vault", folder).seen
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written" in folder_finding("vault", folder).seen
    assert "cannot make it" in folder_finding("vault", tmp_path / "other").seen


def test_keys_disk_memory_and_scans(tmp_path):
    key = tmp_path / "node.key"
    assert "missing" in private_finding(key).seen
    key.touch(0o644)
    assert "other users" in private_finding(key).seen
    key.chmod(0o600)
    assert private_finding(key).ok
    assert disk_finding(6 << 30).ok
    assert not disk_finding(1 << 30).ok
    assert memory_finding(3 << 30).ok
    assert not memory_finding(1 << 30).ok
    assert scans_finding("", tmp_path).ok
    assert "no folder" in scans_finding("gone", tmp_path / "gone").seen
    assert "none" in scans_finding("here", tmp_path).seen
    (tmp_path / "a.npz").touch()
    assert scans_finding("here", tmp_path).ok


def test_the_command_names_what_is_wrong_and_ends_with_1(folder):
    path = folder / "hospital-1" / "settings.toml"
    path.write_text(path.read_text().replace("server.example.org", "127.0.0.1").replace("42000", "9"))
    (folder / "hospital-1" / "node.key").chmod(0o640)
    done = CliRunner().invoke(app, ["deploy", "check", str(folder / "hospital-1")])
    assert done.exit_code == 1
    wrong = [
        line for line in done.output.splitlines() if "wrong " in line and "memory" not in line and "disk" not in line
    ]
    assert len(wrong) == 2, done.output
    assert "key node.key: can be read by other users; do: chmod 600" in wrong[0]
    assert "127.0.0.1:9 is closed; do: start the server" in wrong[1]
