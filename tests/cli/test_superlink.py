import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from apps.cli import superlink
from apps.cli.superlink import RAY_SOCKET, require_short_temporary_folder
from apps.flower.command import environment_of
from braincl_med.foundation.errors import ConfigError, FederationError
from braincl_med.foundation.processes import LAUNCHER_VARIABLE


def environment(**inherited: str) -> dict[str, str]:
    return environment_of(inherited, Path("/run/home"), 42)


def test_what_stays_on_this_machine_goes_through_no_proxy() -> None:
    made = environment(http_proxy="http://proxy:3128", no_proxy="intranet, localhost", NO_PROXY="hospital.example")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        assert made[name] == "intranet,localhost,hospital.example,127.0.0.1"
    assert made["http_proxy"] == "http://proxy:3128", "scans are still downloaded through it"
    assert environment()["no_proxy"] == "127.0.0.1,localhost"


def test_a_socks_proxy_which_stops_flowers_client_is_left_out() -> None:
    made = environment(
        ALL_PROXY="socks5://proxy:1080", all_proxy="SOCKS5h://proxy:1080", https_proxy="http://proxy:1"
    )
    assert "ALL_PROXY" not in made
    assert "all_proxy" not in made
    assert made["https_proxy"] == "http://proxy:1"


def test_nothing_inherited_steers_flower_or_ray_elsewhere() -> None:
    made = environment(
        FLWR_HOME="/elsewhere",
        FLWR_LOG_LEVEL="x",
        RAY_ADDRESS="cluster:6379",
        RAY_TMPDIR="/x",
        RAY_memory_usage_threshold="0.9",
        PATH="/bin",
        HOME="/home/a",
    )
    assert made["FLWR_HOME"] == "/run/home"
    assert made[LAUNCHER_VARIABLE] == "42"
    assert not {"FLWR_LOG_LEVEL", "RAY_ADDRESS", "RAY_TMPDIR"} & set(made)
    assert made["RAY_memory_usage_threshold"] == "0.9"
    assert made["HOME"] == "/home/a"
    assert made["PATH"] == f"{Path(sys.executable).parent}:/bin"


def test_a_temporary_folder_too_deep_for_rays_sockets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = "/" + "t" * (106 - len(RAY_SOCKET))
    monkeypatch.setattr(tempfile, "tempdir", fits)
    require_short_temporary_folder()
    monkeypatch.setattr(tempfile, "tempdir", fits + "t")
    with pytest.raises(ConfigError, match="set TMPDIR to a folder with a shorter path, such as /tmp"):
        require_short_temporary_folder()


def test_an_open_port_is_not_yet_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(superlink, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(superlink, "START_SECONDS", 0.3)
    waiting = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    try:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            with pytest.raises(FederationError, match=r"has not answered within 0 s; see 'a.flower.log'"):
                superlink._wait_until_answering(port, waiting, "a.flower.log")
    finally:
        waiting.kill()
        waiting.wait()


def test_a_superlink_that_ends_is_not_waited_for() -> None:
    ended = subprocess.Popen(["false"])
    ended.wait()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(FederationError, match=r"ended with status 1 before it answered; see 'a.flower.log'"):
            superlink._wait_until_answering(unused.getsockname()[1], ended, "a.flower.log")
