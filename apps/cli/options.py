"""Options that several commands have, and what they mean."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.files import make_folder
from braincl_med.settings.config import STATE_VARIABLE, ExperimentConfig
from braincl_med.settings.loading import load_experiment

if TYPE_CHECKING:
    from braincl_med.vault.keys import Keys

StateOption = Annotated[
    Path | None, typer.Option("--state", help="State root (default: $BRAINCL_STATE, else ~/.braincl).")
]
VaultKeyOption = Annotated[
    str,
    typer.Option(
        "--vault-key",
        envvar="BRAINCL_VAULT_KEY",
        metavar="PLACE",
        help="Where the key of sealed vaults comes from: file:/…, env:NAME, credential:NAME or command:…",
    ),
]
NetworkKeyOption = Annotated[
    str,
    typer.Option(
        "--network-key",
        envvar="BRAINCL_NETWORK_KEY",
        metavar="PLACE",
        help="The same of the key of their completion networks, if these have one.",
    ),
]
NetworkDirOption = Annotated[
    Path | None, typer.Option("--network-dir", help="Where completion networks lie, if not beside the cues.")
]
OverrideOption = Annotated[
    list[str] | None, typer.Option("--set", "-c", help="Override a key: -c sleep-epochs=6. May be repeated.")
]


def load(config: str, override: list[str] | None, state: Path | None) -> ExperimentConfig:
    """The experiment that `config` names, with what the command line says of it.

    Raises:
        ConfigError: it is refused, or there is no place for its state.
    """
    pairs = dict(item.partition("=")[::2] for item in override or [])
    for key, value in pairs.items():
        if not value:
            raise ConfigError(f"'{key}' sets nothing: give -c {key}=value")
    if state is not None:
        pairs["state-root"] = str(state.resolve())
    experiment = load_experiment(config, pairs)
    _folder(experiment)
    return experiment


def keys_for(vault_key: str, network_key: str, network_dir: Path | None, *, plain_too: bool = True) -> "Keys":
    """The keys that the options name, to look at vaults with; `plain_too` is for whoever takes plain files as well.

    Raises:
        ConfigError: as `Keys.read`.
    """
    from braincl_med.vault.keys import Keys

    return Keys.read(vault_key, network_key, network_dir=network_dir, plain_too=plain_too)


def state_root(state: Path | None) -> Path:
    """The state root: `--state`, else the environment's, else the default.

    Raises:
        ConfigError: none is named, and this user has no home folder.
    """
    return _folder(ExperimentConfig(state_root=str(state or "")))


def writable(state: Path) -> None:
    """Make the state root if it is missing, and see that files can be made in it.

    Raises:
        ConfigError: they cannot.
    """
    try:
        make_folder(state)
        with tempfile.TemporaryFile(dir=state):
            pass
    except OSError as error:
        raise ConfigError(
            f"the state root '{state.name}', which keeps checkpoints, vaults and records, cannot be written "
            f"({os.strerror(error.errno or 0).lower()}): name another folder with --state or {STATE_VARIABLE}"
        ) from error


def _folder(experiment: ExperimentConfig) -> Path:
    try:
        return experiment.state_folder
    except RuntimeError:
        raise ConfigError(
            "this user has no home folder, where the state root would be, which keeps checkpoints, vaults and "
            f"records: name a folder with --state or {STATE_VARIABLE}"
        ) from None
