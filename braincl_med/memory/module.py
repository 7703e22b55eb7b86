"""The memory module of one hospital and task: fitted on scans, it turns them into cues and back."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from braincl_med.config import MemoryConfig
from braincl_med.memory.entropy import PiecewiseLinearEntropy
from braincl_med.memory.networks import (
    WIDTHS,
    MemoryShape,
    PatternCompletion,
    PatternSeparation,
    principal_components,
    start_from_principal_components,
)
from braincl_med.seeding import seed_everything

Images = npt.NDArray[np.uint8]
Cues = npt.NDArray[np.int16]
Progress = Callable[[int, int, float, float], None]
"""Called after each epoch with epoch, epochs, recall loss (MSE of pixels in [0, 1]) and bits per cue element."""

BATCH = 256
LEAST_DEVIATION = 0.35
"""A principal component is kept when scans vary along it by more than this share of a quantiser step."""
SMALLEST_IMPROVEMENT = 1e-3
"""Training stops when the loss has not fallen by this share of itself for `patience` epochs."""


@dataclass
class MemoryModule:
    """Separation and completion after fitting; drop the module once its scans are encoded.

    Attributes:
        separation: S, deleted with the module.
        completion: G, rounded to half precision as it will be stored.
        epochs: how many were trained before the stopping rule.
    """

    separation: PatternSeparation
    completion: PatternCompletion
    epochs: int

    def encode(self, images: Images) -> Cues:
        """Cues (n, M, rows, columns) of scans (n, height, width, 3), in batches."""
        self.separation.eval()
        parts = [np.zeros((0, *self.separation.shape.cue), np.int16)]
        with torch.no_grad():
            for start in range(0, len(images), BATCH):
                scans = as_tensor(images[start : start + BATCH], self.separation.shape.channels)
                cues = self.separation(scans).round().clamp(-(2**15), 2**15 - 1)
                parts.append(cues.to(torch.int16).numpy())
        return np.concatenate(parts)


def complete(completion: PatternCompletion, cues: Cues) -> Images:
    """Recalled scans (n, height, width, 3) uint8 of cues (n, M, rows, columns)."""
    shape = completion.shape
    parts = [np.zeros((0, shape.height, shape.width, 3), np.uint8)]
    completion.eval()
    with torch.no_grad():
        for start in range(0, len(cues), BATCH):
            recalled = completion(torch.from_numpy(cues[start : start + BATCH].astype(np.float32)))
            pixels = (recalled.clamp(0, 1) * 255).round().to(torch.uint8)
            parts.append(pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def as_tensor(images: Images, channels: int) -> Tensor:
    """Scans (n, h, w, 3) uint8 as (n, channels, h, w) float in [0, 1]; of three equal channels one is enough."""
    return torch.from_numpy(np.ascontiguousarray(images[..., :channels])).permute(0, 3, 1, 2).float() / 255


def fit(images: Images, config: MemoryConfig, seed: int, progress: Progress | None = None) -> MemoryModule:
    """Train separation, completion and entropy model on a task's scans.

    The completion network follows the recall loss (eq. 1), the separation network recall + λ · entropy, the entropy
    model the entropy (eq. 3) with its own optimiser. Quantisation in training is `noise` (the paper: additive uniform
    noise for both losses) or `mixed` (noise for the entropy, straight-through rounding for the recall).

    Args:
        images: (n, height, width, 3) uint8, at least one.
        config: shape, losses and training.
        seed: of weights, noise and order; the same seed gives the same networks on the same machine.
        progress: called after each epoch.

    Raises:
        ValueError: there are no scans.
    """
    if not len(images):
        raise ValueError("a memory module needs at least one scan, got none")
    seed_everything(seed)
    separation, completion = _build(images, config)
    channels = separation.shape.channels
    with torch.no_grad():
        entropy = PiecewiseLinearEntropy(separation(as_tensor(images[:1024], channels)))
    networks = [*separation.parameters(), *completion.parameters()]
    optimiser = torch.optim.Adam(networks, lr=config.learning_rate)
    entropy_optimiser = torch.optim.Adam(entropy.parameters(), lr=config.entropy_learning_rate)
    best, stale, epoch = float("inf"), 0, 0
    for epoch in range(1, config.epochs + 1):
        recall_sum = bits_sum = 0.0
        for chosen in torch.split(torch.randperm(len(images)), config.batch_size):
            scans = as_tensor(images[chosen.numpy()], channels)
            recall, bits = losses(scans, separation, completion, entropy, config.quantisation)
            optimiser.zero_grad()
            entropy_optimiser.zero_grad()
            (recall + config.lambda_ * bits).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(networks, config.gradient_norm)
            optimiser.step()
            entropy_optimiser.step()
            recall_sum += recall.item() * len(chosen)
            bits_sum += bits.item() * len(chosen)
        recall_mean, bits_mean = recall_sum / len(images), bits_sum / len(images)
        if progress is not None:
            progress(epoch, config.epochs, recall_mean, bits_mean)
        loss = recall_mean + config.lambda_ * bits_mean
        best, stale = (loss, 0) if loss < best * (1 - SMALLEST_IMPROVEMENT) else (best, stale + 1)
        if stale >= config.patience:
            break
    completion.half().float()
    return MemoryModule(separation.eval(), completion.eval(), epoch)


def losses(
    scans: Tensor,
    separation: PatternSeparation,
    completion: PatternCompletion,
    entropy: PiecewiseLinearEntropy,
    quantisation: str,
) -> tuple[Tensor, Tensor]:
    """Recall loss (eq. 1) and mean bits per cue element (eq. 3) of a batch of scans (B, C, H, W)."""
    cues = separation(scans)
    noisy = cues + torch.rand_like(cues) - 0.5
    quantised = noisy if quantisation == "noise" else cues + (cues.round() - cues).detach()
    return functional.mse_loss(completion(quantised), scans), entropy(noisy)


def _build(images: Images, config: MemoryConfig) -> tuple[PatternSeparation, PatternCompletion]:
    """Networks of the configured shape; with a linear path they start from the scans' principal components."""
    hidden, cue_channels = WIDTHS[config.preset]
    linear = config.components > 0
    grey = linear and bool((images[..., :1] == images).all())
    shape = MemoryShape(
        channels=1 if grey else 3,
        height=images.shape[1],
        width=images.shape[2],
        cue_channels=cue_channels,
        hidden_channels=config.hidden_channels or hidden,
        down_samplings=config.down_samplings,
        linear=linear,
    )
    if not linear:
        return PatternSeparation(shape), PatternCompletion(shape)
    scans = as_tensor(images, shape.channels)
    mean, basis, deviations = principal_components(scans, shape, config.components)
    # A component that varies by much less than a step would be rounded to nothing and only cost its row of the basis.
    worthwhile = max(1, int((deviations > config.step * LEAST_DEVIATION).sum()))
    shape = MemoryShape(**{**shape.as_json(), "cue_channels": worthwhile})
    separation, completion = PatternSeparation(shape), PatternCompletion(shape)
    start_from_principal_components(separation, completion, mean, basis[:worthwhile], config.step)
    return separation, completion
