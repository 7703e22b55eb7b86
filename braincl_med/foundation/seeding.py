"""Seeds for everything random, derived from the experiment's one seed and what they are for."""

import hashlib
import random

import numpy as np


def seed_for(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed that depends on the experiment's seed and on every word of `purpose`.

    Deriving seeds by purpose, not by drawing them in turn, keeps a resumed run equal to an uninterrupted one.

    >>> seed_for(1, "wake", 0) == seed_for(1, "wake", 0) != seed_for(1, "wake", 1)
    True
    """
    text = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy's legacy generator (some libraries still use it) and torch; cuDNN chooses reproducibly."""
    # Imported here: whoever only derives seeds, or reads what was recorded, needs no torch.
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
