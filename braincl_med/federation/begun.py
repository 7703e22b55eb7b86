"""Whether a task is begun of which the server keeps no step: its first may have failed at some hospitals only."""

from pathlib import Path

from braincl_med.vault.vault import Vault


def encoded_at(state: Path, experiment: str, task: int) -> list[str]:
    """The simulated hospitals whose vaults hold a memory of `task`; those elsewhere cannot be looked at."""
    vaults = sorted(state.glob(f"site-*/{experiment}"))
    return [vault.parent.name for vault in vaults if Vault(vault).entry(task) is not None]
