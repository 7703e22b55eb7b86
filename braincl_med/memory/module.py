"""The memory module of one hospital and task: fitted on scans, it turns them into cues and back."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from braincl_med.foundation.arrays import Images, Labels
from braincl_med.foundation.progress import Progress
from braincl_med.foundation.seeding import seed_everything
from braincl_med.memory.components import blocks_of, principal_components, start_from_principal_components
from braincl_med.memory.fixed import fit_fixed
from braincl_med.memory.guide import gradients_of, train_guide
from braincl_med.memory.metric import Metric
from braincl_med.memory.networks import (
    PUBLIC_BASIS,
    WIDTHS,
    MemoryShape,
    PatternCompletion,
    PatternSeparation,
    with_refinement,
)
from braincl_med.memory.rounding import cost_of_linear_path, round_all, round_linear_path, round_refinement
from braincl_med.memory.symmetry import SYMMETRIES
from braincl_med.memory.training import as_tensor, refine, train
from braincl_med.memory.weights import CodedTensor, pack, unpack
from braincl_med.settings.memory import LinearMemory, PaperMemory

Cues = npt.NDArray[np.int16]

BATCH = 256
LARGEST_SAMPLE = 8192
"""Blocks from which principal components and a guide's metric are taken: more would fill the memory and change
nothing."""


@dataclass
class MemoryModule:
    """Separation and completion after fitting; drop the module once its scans are encoded.

    Attributes:
        separation: S, deleted with the module.
        completion: G, with its weights as they are stored.
        stored: G as the bytes of a cue file.
        epochs: how many were trained before the stopping rule.
    """

    separation: PatternSeparation
    completion: PatternCompletion
    stored: bytes
    epochs: int

    def encode(self, images: Images) -> Cues:
        """Cues (n, M, rows, columns) of scans (n, height, width, 3), in batches."""
        self.separation.eval()
        encoded = np.empty((len(images), *self.separation.shape.cue), np.int16)
        with torch.no_grad():
            for start in range(0, len(images), BATCH):
                scans = as_tensor(images[start : start + BATCH], self.separation.shape.channels)
                cues = self.separation(scans).round().clamp(-(2**15), 2**15 - 1)
                encoded[start : start + BATCH] = cues.to(torch.int16).numpy()
        return encoded


def complete(completion: PatternCompletion, cues: Cues) -> Images:
    """Recalled scans (n, height, width, 3) uint8 of cues (n, M, rows, columns)."""
    shape = completion.shape
    recalls = np.empty((len(cues), shape.height, shape.width, 3), np.uint8)
    completion.eval()
    with torch.no_grad():
        for start in range(0, len(cues), BATCH):
            recalled = completion(torch.from_numpy(cues[start : start + BATCH].astype(np.float32)))
            pixels = (recalled.clamp(0, 1) * 255).round().to(torch.uint8)
            recalls[start : start + BATCH] = pixels.permute(0, 2, 3, 1).numpy()
    return recalls


def recall_error(completion: PatternCompletion, cues: Cues, images: Images) -> float:
    """Root mean squared error of the recalls of cues (n, M, rows, columns), n ≥ 1, pixels in [0, 1]; in batches."""
    total = 0.0
    for start in range(0, len(cues), BATCH):
        recalled = complete(completion, cues[start : start + BATCH])
        total += float(((recalled.astype(np.float32) - images[start : start + BATCH]) ** 2).sum(dtype=np.float64))
    return math.sqrt(total / images.size) / 255


def fit(
    images: Images,
    config: LinearMemory | PaperMemory,
    seed: int,
    labels: Labels | None = None,
    progress: Progress | None = None,
) -> MemoryModule:
    """Fit separation and completion to a task's scans and round the completion network's weights.

    With a linear path a guide first learns the classes, if there are two, and says what is worth
    keeping. The principal components under its metric are rounded and the separation network becomes their
    least-squares inverse, so that the cues are final; then the refining convolutions learn from the recalls that they
    will see. Without a linear path the networks are trained as the paper has it. A fixed basis is fitted to nothing.

    Args:
        images: (n, height, width, 3) uint8, at least one; with a public basis those that teach it.
        config: shape, losses and training.
        seed: of weights, noise and order; the same seed gives the same networks on the same machine.
        labels: (n,) classes for the guide; without them there is none.
        progress: called after each epoch.

    Raises:
        ValueError: there are no scans.
    """
    if not len(images):
        raise ValueError("a memory module needs at least one scan, got none")
    seed_everything(seed)
    if isinstance(config, LinearMemory) and config.basis == "fixed":
        return MemoryModule(*fit_fixed(images, config), epochs=0)
    if isinstance(config, LinearMemory):
        step = config.weight_step or config.step
        separation, completion, linear = _linear_path(images, labels, config, step, progress)
        epochs = refine(separation, completion, images, config, progress)
        rounded = round_refinement(separation, completion, linear, images, step, config.step, seed)
    else:
        shape = _shape(
            images, config, channels=3, cue_channels=WIDTHS[config.preset][1], hidden=WIDTHS[config.preset][0]
        )
        separation, completion = PatternSeparation(shape), PatternCompletion(shape)
        epochs = train(separation, completion, images, config, progress)
        rounded = round_all(separation, completion, images, config.weight_step, seed)
    stored = pack(*rounded)
    return MemoryModule(separation.eval(), unpack(stored, rounded[0].shape)[0], stored, epochs)


def _linear_path(
    images: Images, labels: Labels | None, config: LinearMemory, step: float, progress: Progress | None
) -> tuple[PatternSeparation, PatternCompletion, dict[str, CodedTensor]]:
    """Networks whose linear path is a rounded principal component analysis, under the symmetry that costs least."""
    channels = 1 if bool((images[..., :1] == images).all()) else 3
    shape = _shape(images, config, channels, config.components, hidden=0)
    sample = images
    largest = max(1, LARGEST_SAMPLE // math.prod(shape.grid))
    if len(images) > largest:
        sample = images[torch.randperm(len(images))[:largest].numpy()]
    scans = as_tensor(sample, channels)
    gradients = _gradients(images, labels, config, shape, progress)
    block = (channels, *shape.block)
    best, lowest = None, math.inf
    for symmetry in SYMMETRIES:
        if symmetry == SYMMETRIES[-1] and shape.block[0] != shape.block[1]:
            continue
        # A component that varies by less than a step is rounded to nothing for most scans. Where it is not, it holds
        # what few scans have, and a network learns from that; below the least deviation it only costs its row.
        metric = Metric.of(gradients, symmetry, block, config.guidance)
        found = principal_components(scans, shape, metric, config.step * config.least_deviation, config.components)
        kinds = tuple(np.bincount(found.kinds, minlength=symmetry).tolist()) if symmetry > 1 else ()
        mine = replace(shape, cue_channels=len(found.basis), kinds=kinds)
        separation, completion = PatternSeparation(mine), PatternCompletion(mine)
        start_from_principal_components(separation, completion, found, config.step)
        coded = round_linear_path(separation, completion, images, metric, step)
        cost = cost_of_linear_path(separation, completion, coded, images, metric, config.step)
        if cost < lowest:
            best, lowest = (separation, completion, coded), cost
    assert best is not None
    separation, completion, coded = best
    return separation, with_refinement(completion, config.refining_channels), coded


def _gradients(
    images: Images, labels: Labels | None, config: LinearMemory, shape: MemoryShape, progress: Progress | None
) -> Tensor:
    """(m, d) blocks of a guide's gradients, at most 8,192; none where there is nothing to tell apart."""
    if labels is None or not config.guidance or len(np.unique(labels)) < 2:
        return torch.zeros(0, shape.channels * math.prod(shape.block))
    guide = train_guide(images, labels, shape.channels, config.guide_steps, progress)
    gradients = gradients_of(guide, images, labels, shape.channels)
    largest = max(1, LARGEST_SAMPLE // math.prod(shape.grid))
    if len(gradients) > largest:
        gradients = gradients[torch.randperm(len(gradients))[:largest]]
    return blocks_of(gradients, shape)


def _shape(
    images: Images, config: LinearMemory | PaperMemory, channels: int, cue_channels: int, hidden: int
) -> MemoryShape:
    """The shape of both networks; without hidden channels there is a linear path, not refined yet."""
    return MemoryShape(
        channels=channels,
        height=images.shape[1],
        width=images.shape[2],
        cue_channels=cue_channels,
        hidden_channels=hidden,
        down_samplings=config.down_samplings,
        linear=not hidden,
        refining_channels=0,
        basis=PUBLIC_BASIS if isinstance(config, LinearMemory) and config.basis == "public" else "",
    )
