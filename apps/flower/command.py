"""The `flwr` command against one SuperLink: its environment, its connection, its words and its answers."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from braincl_med.foundation.errors import FederationError
from braincl_med.foundation.processes import LAUNCHER_VARIABLE

PROGRAMS = Path(sys.executable).parent
LOOPBACK = "127.0.0.1"
CONNECTION = "own"
"""The SuperLink's name in `config.toml`."""
# Ray's tuning knobs are lower-case after the prefix (RAY_memory_usage_threshold): they are left alone.
STEERING = re.compile(r"FLWR_|RAY_[A-Z]")
UNPROXIED = ("no_proxy", "NO_PROXY", "no_grpc_proxy")


def program(name: str) -> str:
    """The path of one of Flower's programs, which lie beside this Python."""
    return str(PROGRAMS / name)


def environment_of(inherited: Mapping[str, str], home: Path, launcher: int) -> dict[str, str]:
    """The environment of a private SuperLink and of all that it starts.

    What would steer Flower or Ray elsewhere is left out, and what stays on this machine goes through no proxy. A
    SOCKS proxy is left out altogether: Flower's HTTP client refuses to start where one is named, used or not.

    Args:
        inherited: the environment of the launcher.
        home: FLWR_HOME, whose `config.toml` names the SuperLink.
        launcher: process id of the launcher.
    """
    kept = {
        name: value
        for name, value in inherited.items()
        if not STEERING.match(name) and not (name.lower().endswith("_proxy") and value.lower().startswith("socks"))
    }
    listed = [host.strip() for name in UNPROXIED for host in inherited.get(name, "").split(",")]
    direct = ",".join(dict.fromkeys([*filter(None, listed), LOOPBACK, "localhost"]))
    return {
        **kept,
        **dict.fromkeys(UNPROXIED, direct),
        "FLWR_HOME": str(home),
        LAUNCHER_VARIABLE: str(launcher),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{PROGRAMS}{os.pathsep}{inherited.get('PATH', '')}",
    }


def connection(host: str, port: int, authority: Path | None) -> str:
    """`config.toml` of a FLWR_HOME whose one connection is this SuperLink, without TLS where no CA is named."""
    trust = "insecure = true" if authority is None else f"root-certificates = {quoted(str(authority))}"
    return f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\naddress = "{host}:{port}"\n{trust}\n'


def quoted(text: str) -> str:
    """A string as TOML writes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Flwr:
    """The `flwr` command against one SuperLink, which this process started or which runs elsewhere (None)."""

    def __init__(
        self, home: Path, environment: dict[str, str], superlink: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.home = home
        self.environment = environment
        self.superlink = superlink

    def submit(self, app: Path, overrides: Path | None = None, simulated: str | None = None) -> str:
        """Submit the app in a folder, with settings from a TOML file; the run's id.

        Args:
            app: the folder.
            overrides: keys of `tool.flwr.app.config` and other values for them.
            simulated: what a SuperLink that simulates its nodes must know of them: `apps.flower.programs.simulated`.

        Raises:
            FederationError: it was refused.
        """
        options = [] if overrides is None else ["-c", str(overrides)]
        options += [] if simulated is None else ["--federation-config", simulated]
        answer = self._json("run", str(app), CONNECTION, *options)
        _require(answer, "the run")
        return str(answer["run-id"])

    def status(self, run: str) -> str:
        """Flower's status of a run.

        Raises:
            FederationError: the SuperLink does not say.
        """
        runs = self._json("list", CONNECTION, "--run-id", run).get("runs")
        if not isinstance(runs, list) or not runs:
            raise FederationError(
                "the SuperLink does not tell the run's status; see Flower's log in the state root's logs"
            )
        return str(runs[0]["status"])

    def going_on(self) -> list[str]:
        """The ids of the runs that are under way."""
        runs = self._json("list", CONNECTION).get("runs")
        return [str(run["run-id"]) for run in runs if run["status"] == "running"] if isinstance(runs, list) else []

    def stop(self, run: str) -> bool:
        """Whether the SuperLink has stopped a run."""
        return bool(self._json("stop", run, CONNECTION).get("success"))

    def log(self, run: str) -> str:
        """What a run's server app has printed."""
        return self._call("log", run, CONNECTION, "--show").stdout

    def nodes(self) -> set[str] | None:
        """The ids of the nodes whose keys count; None where the SuperLink does not tell.

        Raises:
            FederationError: it does not answer.
        """
        nodes = self._json("supernode", "list", CONNECTION).get("nodes")
        if not isinstance(nodes, list):
            return None
        return {str(node["node-id"]) for node in nodes if node["status"] != "unregistered"}

    def register(self, key: Path, name: str) -> str:
        """Let the holder of a key in; the node's id.

        Raises:
            FederationError: the SuperLink refuses it.
        """
        answer = self._json("supernode", "register", str(key), CONNECTION, "--name", name)
        _require(answer, f"the key of {name}")
        return str(answer["node-id"])

    def unregister(self, node: str, name: str) -> None:
        """Let a node in no longer.

        Raises:
            FederationError: the SuperLink refuses that.
        """
        _require(self._json("supernode", "unregister", node, CONNECTION), f"the former key of {name}")

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [program("flwr"), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, cwd=self.home)

    def _json(self, *arguments: str) -> dict[str, object]:
        """Run `flwr` with JSON output and parse it.

        Raises:
            FederationError: it failed or printed something else.
        """
        done = self._call(*arguments, "--format", "json")
        try:
            answer: dict[str, object] = json.loads(done.stdout[done.stdout.index("{") :])
        except ValueError:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise FederationError(f"flwr {arguments[0]} failed: {lines[-1] if lines else 'no output'}") from None
        return answer


def _require(answer: dict[str, object], what: str) -> None:
    if not answer.get("success"):
        raise FederationError(f"the SuperLink refused {what}: {answer.get('error-message', answer)}")
