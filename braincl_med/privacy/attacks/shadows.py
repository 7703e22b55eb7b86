"""The figures that membership attacks measure of a scan, and shadows on which they measure them too."""

import time

import numpy as np
import numpy.typing as npt
import torch

from braincl_med.cortex.cortex import Cortex, predict
from braincl_med.foundation.arrays import Images, Labels
from braincl_med.foundation.seeding import seed_everything, seed_for
from braincl_med.memory.components import blocks_of
from braincl_med.memory.guide import train_guide
from braincl_med.memory.module import complete, fit
from braincl_med.memory.networks import PatternCompletion
from braincl_med.memory.training import as_tensor
from braincl_med.privacy.attacks.membership import Flags, halves
from braincl_med.settings.memory import LinearMemory

Values = npt.NDArray[np.float64]

LEAST_ERROR = 1e-9
"""Squared, pixels in [0, 1]: below it errors are alike."""
FEWEST, MOST = 4, 16
"""Shadows: of fewer nothing can be said, of more hardly anything new."""
STEPS = 500
"""Of training of a shadow of the shared network."""


def rebuilt(completion: PatternCompletion, images: Images) -> Values:
    """(n,) minus the log squared error of scans' projections onto what a linear completion network can say.

    Needs the network alone, no cue. Components fit the scans they were computed from better than others.

    Raises:
        ValueError: the network has no linear path.
    """
    if completion.synthesis is None:
        raise ValueError("a network without a linear path spans no plane")
    shape = completion.shape
    directions = completion.synthesis.weight.detach().reshape(shape.cue_channels, -1).double()
    plane = torch.linalg.qr(directions.T)[0]
    blocks = blocks_of(as_tensor(images, shape.channels), shape).double() - completion.mean.detach().reshape(-1)
    error = ((blocks - blocks @ plane @ plane.T) ** 2).reshape(len(images), -1).mean(1)
    likeness: Values = -np.log(np.maximum(error.numpy(), LEAST_ERROR))
    return likeness


def nearest_recall(recalls: Images, images: Images) -> Values:
    """(n,) minus the log squared distance of scans to the nearest of a vault's recalls, a mean over pixels."""
    theirs = recalls.reshape(len(recalls), -1).astype(np.float32) / 255
    squares = (theirs**2).sum(1)
    distances = []
    for start in range(0, len(images), 256):
        ours = images[start : start + 256].reshape(-1, theirs.shape[1]).astype(np.float32) / 255
        distances.append(((ours**2).sum(1)[:, None] - 2 * ours @ theirs.T + squares).min(1) / theirs.shape[1])
    return -np.log(np.maximum(np.concatenate(distances).astype(np.float64), LEAST_ERROR))


def margins(logits: npt.NDArray[np.float32], labels: Labels) -> Values:
    """(n,) log p / (1 − p) of the right class's probability p, from logits (n, classes)."""
    logits = logits.astype(np.float64)
    own = logits[np.arange(len(labels)), labels]
    others = logits.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    highest = others.max(1)
    margin: Values = own - highest - np.log(np.exp(others - highest[:, None]).sum(1))
    return margin


def confidence(cortex: Cortex, images: Images, labels: Labels) -> Values:
    """(n,) a shared network's margins; labels are rows of its classifier."""
    return margins(predict(cortex, images), labels)


def memory_shadows(
    images: Images, labels: Labels, memory: LinearMemory, seed: int, until: float, most: int
) -> tuple[Values, Values, Flags]:
    """Memories fitted to halves of a pool, as many as time allows, at least two.

    Args:
        images, labels: (n, h, w, 3) the pool and its classes.
        memory: settings, those of the target where they are known.
        until: of `time.monotonic`.
        most: shadows.

    Returns:
        (s, n) `rebuilt` and `nearest_recall` of each scan, (s, n) which scans each shadow was fitted to.
    """
    inside = halves(len(images), most, seed)
    networks, vaults = [], []
    for number, mine in enumerate(inside):
        if _ended(number, until):
            break
        module = fit(images[mine], memory, seed_for(seed, "shadow", number), labels[mine])
        recalls = complete(module.completion, module.encode(images[mine]))
        networks.append(rebuilt(module.completion, images))
        vaults.append(nearest_recall(recalls, images))
    return np.array(networks), np.array(vaults), inside[: len(networks)]


def network_shadows(
    images: Images, labels: Labels, seed: int, until: float, most: int, steps: int = STEPS
) -> tuple[Values, Flags]:
    """Small classifiers trained on halves of a pool, as many as time allows, at least two.

    Returns:
        (s, n) margins of each scan, (s, n) which scans each was trained on.
    """
    inside = halves(len(images), most, seed)
    truth = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    channels, found = 3, []
    for number, mine in enumerate(inside):
        if _ended(number, until):
            break
        seed_everything(seed_for(seed, "shadow network", number))
        guide = train_guide(images[mine], truth[mine], channels, steps)
        with torch.no_grad():
            logits = torch.cat([guide(as_tensor(images[i : i + 256], channels)) for i in range(0, len(images), 256)])
        found.append(margins(logits.numpy(), truth))
    return np.array(found), inside[: len(found)]


def _ended(shadows: int, until: float) -> bool:
    """Whether time is up; by twos, so that of every scan as many shadows had it as had not."""
    return shadows > 0 and shadows % 2 == 0 and time.monotonic() > until
