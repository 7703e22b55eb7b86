"""A known start: weights of a backbone that the user names, read from a file and never fetched."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from braincl_med.cortex.cortex import Weights
from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.files import sha256_of

PREFIX = "backbone."
REDUCTION = "reduction."
CLASSIFIERS = ("fc.", "classifier.", "head.")
"""How networks name the classifier that they were trained with; ours begins anew."""


def load_start(path: Path) -> tuple[Weights, str]:
    """The tensors of a file and the SHA-256 of its bytes.

    A file that ends in `.safetensors` is one; any other is read as a state dict of PyTorch, of which nothing but
    tensors is taken (`weights_only`).

    Raises:
        ConfigError: the file is missing, or holds something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the weights '{path.name}' (cortex-weights) cannot be read: {error.strerror}; name a file on the server"
        ) from None
    try:
        if path.suffix == ".safetensors":
            held = load_safetensors(content)
        else:
            held = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {str(name): tensor for name, tensor in held.items() if isinstance(tensor, torch.Tensor)}
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, AttributeError, KeyError) as error:
        raise ConfigError(
            f"'{path.name}' (cortex-weights) holds no weights ({type(error).__name__}): give a safetensors file, or "
            "a state dict that torch.load reads with weights_only"
        ) from None
    except Exception as error:  # a pickle that is no state dict makes the reader raise whatever it likes
        raise ConfigError(f"'{path.name}' (cortex-weights) is refused ({type(error).__name__})") from None
    return tensors, sha256_of(content)


def started(network: Weights, start: Weights) -> Weights:
    """A new network whose backbone has the weights of `start`, and its reduction where the network has one.

    Args:
        network: all tensors of a new network, its backbone's as `backbone.<name>`.
        start: `<name>` or `backbone.<name>` for every tensor of the backbone, but for step counters, and
            `reduction.<name>`; a classifier beside them is left out.

    Raises:
        ConfigError: it is of another network; the first tensor that differs is named.
    """
    reduced = any(name.startswith(REDUCTION) for name in network)
    kept = {name: tensor for name, tensor in start.items() if reduced or not name.startswith(REDUCTION)}
    given = {name.removeprefix(PREFIX): tensor for name, tensor in kept.items()}
    mine = {name.removeprefix(PREFIX): t for name, t in network.items() if name.startswith((PREFIX, REDUCTION))}
    if reduced and not any(name.startswith(REDUCTION) for name in given):
        raise ConfigError(
            "the weights (cortex-weights) hold no map to cortex-features: make them with `braincl start`, or leave "
            "cortex-features out"
        )
    needed = [name for name in mine if not name.endswith("num_batches_tracked")]
    lacking = [name for name in needed if name not in given]
    more = [name for name in given if name not in mine and not name.startswith(CLASSIFIERS)]
    if lacking or more:
        what = f"lacks '{lacking[0]}'" if lacking else f"has '{more[0][:80]}', which this backbone has not"
        raise ConfigError(f"the weights (cortex-weights) are of another network than cortex-network: the file {what}")
    result = dict(network)
    for name, tensor in mine.items():
        if name not in given:
            continue
        if given[name].shape != tensor.shape:
            raise ConfigError(
                f"'{name}' of the weights (cortex-weights) is {tuple(given[name].shape)}, this backbone's is "
                f"{tuple(tensor.shape)}: name the network (and the stem) that they are of"
            )
        place = name if name.startswith(REDUCTION) else PREFIX + name
        result[place] = given[name].to(tensor.dtype).contiguous().clone()
    return result
