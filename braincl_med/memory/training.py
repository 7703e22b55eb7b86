"""Training of the memory module's networks."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from braincl_med.foundation.arrays import Images
from braincl_med.foundation.devices import accelerator
from braincl_med.foundation.progress import Progress
from braincl_med.memory.entropy import PiecewiseLinearEntropy
from braincl_med.memory.networks import PatternCompletion, PatternSeparation
from braincl_med.settings.memory import LinearMemory, PaperMemory

GRADIENT_NORM = 1.0
"""Gradients are clipped to this norm, as the paper's authors do."""
ENTROPY_LEARNING_RATE = 1e-3
"""Of the entropy model, which has an optimiser of its own in the paper."""
SMALLEST_IMPROVEMENT = 1e-3
"""Training stops when the loss has not fallen by this share of itself for `patience` epochs."""


def as_tensor(images: Images, channels: int) -> Tensor:
    """Scans (n, h, w, 3) uint8 as (n, channels, h, w) float in [0, 1]; of three equal channels one is enough."""
    return torch.from_numpy(np.ascontiguousarray(images[..., :channels])).permute(0, 3, 1, 2).float() / 255


def losses(
    scans: Tensor,
    separation: PatternSeparation,
    completion: PatternCompletion,
    entropy: PiecewiseLinearEntropy,
    quantisation: str,
) -> tuple[Tensor, Tensor]:
    """Recall loss (eq. 1) and mean bits per cue element (eq. 3) of a batch of scans (B, C, H, W).

    Quantisation is `noise` (the paper: additive uniform noise for both losses) or `mixed` (noise for the entropy,
    straight-through rounding for the recall).
    """
    cues = separation(scans)
    noisy = cues + torch.rand_like(cues) - 0.5
    quantised = noisy if quantisation == "noise" else cues + (cues.round() - cues).detach()
    return functional.mse_loss(completion(quantised), scans), entropy(noisy)


def train(
    separation: PatternSeparation,
    completion: PatternCompletion,
    images: Images,
    config: PaperMemory,
    progress: Progress | None,
) -> int:
    """Train both networks and the entropy model together, as the paper has it.

    The completion network follows the recall loss (eq. 1), the separation network recall + λ · entropy, the entropy
    model the entropy (eq. 3) with its own optimiser.

    Returns:
        How many epochs were trained before the stopping rule.
    """
    channels, device = separation.shape.channels, accelerator()
    separation.to(device)
    completion.to(device)
    with torch.no_grad():
        entropy = PiecewiseLinearEntropy(separation(as_tensor(images[:1024], channels).to(device)))
    networks = [*separation.parameters(), *completion.parameters()]
    optimiser = torch.optim.Adam(networks, lr=config.learning_rate)
    entropy_optimiser = torch.optim.Adam(entropy.parameters(), lr=ENTROPY_LEARNING_RATE)
    best, stale, epoch = float("inf"), 0, 0
    for epoch in range(1, config.epochs + 1):
        recall_sum = bits_sum = 0.0
        for chosen in torch.split(torch.randperm(len(images)), config.batch_size):
            scans = as_tensor(images[chosen.numpy()], channels).to(device)
            recall, bits = losses(scans, separation, completion, entropy, config.quantisation)
            optimiser.zero_grad()
            entropy_optimiser.zero_grad()
            (recall + config.lambda_ * bits).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(networks, GRADIENT_NORM)
            optimiser.step()
            entropy_optimiser.step()
            recall_sum += recall.item() * len(chosen)
            bits_sum += bits.item() * len(chosen)
        recall_mean, bits_mean = recall_sum / len(images), bits_sum / len(images)
        if progress is not None:
            progress(epoch, config.epochs, f"{_decibels(recall_mean)}, {bits_mean:.2f} bits an element")
        loss = recall_mean + config.lambda_ * bits_mean
        best, stale = (loss, 0) if loss < best * (1 - SMALLEST_IMPROVEMENT) else (best, stale + 1)
        if stale >= config.patience:
            break
    separation.cpu()
    completion.cpu()
    return epoch


def refine(
    separation: PatternSeparation,
    completion: PatternCompletion,
    images: Images,
    config: LinearMemory,
    progress: Progress | None,
) -> int:
    """Train the refining convolutions on the final cues with the recall loss (eq. 1).

    Returns:
        How many epochs were trained; none when there are no refining convolutions.
    """
    if completion.refinement is None:
        return 0
    parameters = list(completion.refinement.parameters())
    optimiser = torch.optim.Adam(parameters, lr=config.learning_rate)
    batches = -(-len(images) // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=config.epochs * batches
    )
    channels = separation.shape.channels
    for epoch in range(1, config.epochs + 1):
        recall_sum = 0.0
        for chosen in torch.split(torch.randperm(len(images)), config.batch_size):
            scans = as_tensor(images[chosen.numpy()], channels)
            with torch.no_grad():
                cues = separation(scans).round()
            recall = functional.mse_loss(completion(cues), scans)
            optimiser.zero_grad()
            recall.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
            optimiser.step()
            schedule.step()
            recall_sum += recall.item() * len(chosen)
        if progress is not None:
            progress(epoch, config.epochs, _decibels(recall_sum / len(images)))
    return config.epochs


def _decibels(recall: float) -> str:
    return f"recall {-10 * math.log10(max(recall, 1e-12)):.1f} dB"
