"""How the page is started: on this machine alone, keeping what is uploaded in memory."""

from pathlib import Path

from apps.dashboard.launch import OPTIONS, served

ENTRY = Path(__file__).resolve().with_name("app.py")
MOST_MEGABYTES = 64
"""Of an upload; a browser is told before it sends more."""
UPLOADS = {"server.maxUploadSize": str(MOST_MEGABYTES), "server.maxMessageSize": str(2 * MOST_MEGABYTES)}


def command(
    network: str, state: Path, vault: Path | None, keys: dict[str, str], port: int | None = None
) -> list[str]:
    """The command that serves the page until it is interrupted.

    Args:
        network: an experiment's name or an exported folder.
        state: the state root in which experiments are looked for.
        vault: of the hospital, or None.
        keys: options that say where the vault's keys come from, never keys themselves.
        port: on 127.0.0.1; None lets Streamlit take the first free one from 8501.
    """
    options = {**OPTIONS, **UPLOADS} | ({} if port is None else {"server.port": str(port)})
    told = {"--network": network, "--state": str(state), "--vault": str(vault or ""), **keys}
    return served(ENTRY, options, [f"{key}={value}" for key, value in told.items() if value])
