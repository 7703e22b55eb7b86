"""How the dashboard is started: on this machine alone, telling nobody."""

import sys
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
    "theme.base": "light",
    "theme.primaryColor": "#0072B2",
}


def command(state: Path, port: int | None = None, limits: Path | None = None) -> list[str]:
    """The command that serves the dashboard until it is interrupted.

    Args:
        state: the state root whose run store is shown.
        port: on 127.0.0.1; None lets Streamlit take the first free one from 8501.
        limits: a file of what the hospital asks of every diagnosis.
    """
    options = OPTIONS if port is None else {**OPTIONS, "server.port": str(port)}
    flags = [f"--{key}={value}" for key, value in options.items()]
    asked = [] if limits is None else ["--limits", str(limits)]
    return [sys.executable, "-m", "streamlit", "run", str(ENTRY), *flags, "--", "--state", str(state), *asked]
