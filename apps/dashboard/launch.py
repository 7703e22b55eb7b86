"""How the dashboard is started: on this machine alone, telling nobody."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ENTRY = Path(__file__).resolve().with_name("app.py")
OPTIONS = {
    # Nothing leaves the machine: no usage statistics, and with an address given Streamlit asks no
    # outside service for its own. Headless keeps it from asking for an e-mail address at its first start.
    "browser.gatherUsageStats": "false",
    "server.address": "127.0.0.1",
    "server.headless": "true",
    "server.fileWatcherType": "none",
    # A page that fails shows that it failed, without traceback and paths; those stand in the terminal.
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    # Light or dark as the reader's system is.
    "theme.light.primaryColor": "#0072B2",
    "theme.dark.primaryColor": "#1F7FC4",
}


HOSTS = ("127.0.0.1", "localhost")
"""Under which names a browser may ask for the pages: of a foreign one a page of somebody else could have it ask."""


def served(entry: Path, options: Mapping[str, str], said: Sequence[str], hosts: Sequence[str] = ()) -> list[str]:
    """Streamlit's command line.

    Args:
        entry: the page's file.
        options: of Streamlit.
        said: what the page reads of the command line.
        hosts: more names under which it may be asked, of a proxy.
    """
    flags = [f"--{key}={value}" for key, value in options.items()]
    flags += [f"--server.allowedHosts={host}" for host in (*HOSTS, *hosts)]
    return [sys.executable, "-m", "streamlit", "run", str(entry), *flags, "--", *said]


def command(
    state: Path,
    port: int | None = None,
    limits: Path | None = None,
    hosts: Sequence[str] = (),
    hospital: str = "",
) -> list[str]:
    """The command that serves the dashboard until it is interrupted.

    Args:
        state: the state root whose run store is shown.
        port: on 127.0.0.1; None lets Streamlit take the first free one from 8501.
        limits: a file of what the hospital asks of every diagnosis.
        hosts: names of a proxy before it.
        hospital: whose view it is: all others are shown as one. Empty for the federation's.
    """
    options = OPTIONS if port is None else {**OPTIONS, "server.port": str(port)}
    asked = [] if limits is None else ["--limits", str(limits)]
    whose = ["--hospital", hospital] if hospital else []
    return served(ENTRY, options, ["--state", str(state), *asked, *whose], hosts)
