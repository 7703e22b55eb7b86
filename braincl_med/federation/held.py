"""The shared network that a hospital holds, so that what it has need not be sent again: one file an experiment."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from braincl_med.cortex.cortex import Weights
from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import make_private, reading_error, storage_error, write_whole
from braincl_med.messages.compact import digest_of

NAME = "network.safetensors"


def hold(folder: Path, weights: Weights) -> None:
    """Keep a network instead of the former one.

    Raises:
        VaultError: it cannot be written.
    """
    content = save({name: tensor.contiguous() for name, tensor in weights.items()})
    try:
        make_private(folder)
        write_whole(folder / NAME, content)
    except OSError as error:
        raise storage_error(folder / NAME, len(content), error) from error


def held(folder: Path, digest: str) -> Weights | None:
    """The network of that digest; None where another is held, none, or one that is damaged."""
    try:
        weights = load((folder / NAME).read_bytes())
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    return weights if digest_of(weights) == digest else None


def read_held(path: Path) -> Weights:
    """The network in a file that holds one and nothing beside it.

    Raises:
        VaultError: it holds something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise reading_error(path, error) from error
    try:
        weights = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise VaultError(f"'{path.name}' is no network ({type(error).__name__})") from None
    if save(weights) != content:
        raise VaultError(f"'{path.name}' holds more than a network")
    return weights
