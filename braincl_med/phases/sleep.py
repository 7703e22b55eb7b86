"""Sleep: the whole network is trained on samples recalled from long-term memory, all tasks mixed."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from braincl_med.cortex.cortex import Cortex, scans_to_tensor
from braincl_med.foundation.progress import Progress
from braincl_med.phases.budget import Draw, everything
from braincl_med.phases.rounds import epochs_of_round
from braincl_med.settings.config import SleepConfig
from braincl_med.streams.tasks import Scans

MILESTONES = (1 / 3, 2 / 3)
DECAY = 0.1
WARM_UP = 0.05
FINAL_SHARE = 0.01
CALIBRATION_BATCH = 128
"""Samples whose statistics are taken together when normalisation is calibrated."""
Objective = Callable[[Cortex, Tensor, Tensor], Tensor]
"""The loss of a batch: the network in training, augmented scans (B, 3, H, W) and class numbers (B,)."""

Optimiser = Callable[[Cortex, SleepConfig], torch.optim.Optimizer]
"""Makes what takes the steps; the rates of its groups follow the schedule."""


def momentum_descent(cortex: Cortex, config: SleepConfig) -> torch.optim.Optimizer:
    """SGD with momentum and weight decay on all parameters that need a gradient, in one pass over the weights."""
    return torch.optim.SGD(
        [p for p in cortex.parameters() if p.requires_grad],
        config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=True,
    )


def cross_entropy(cortex: Cortex, scans: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy of a batch."""
    return functional.cross_entropy(cortex(scans), labels)


def learning_rate(config: SleepConfig, progress: float) -> float:
    """The learning rate at `progress` in [0, 1) through the whole sleep phase, all rounds together.

    `steps`: ×0.1 at one third and at two thirds (the paper's epochs 20 and 40 of 60). `cosine`: a linear warm-up over
    the first 5 %, then a cosine down to 1 % of the initial rate.
    """
    if config.schedule == "steps":
        return config.learning_rate * DECAY ** sum(progress >= m for m in MILESTONES)
    if progress < WARM_UP:
        return config.learning_rate * (progress + 1e-3) / (WARM_UP + 1e-3)
    turn = (progress - WARM_UP) / (1 - WARM_UP)
    return config.learning_rate * (FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * turn)) / 2)


def sleep(
    cortex: Cortex,
    recalled: Scans,
    config: SleepConfig,
    round_number: int,
    seed: int,
    dithering: float,
    objective: Objective = cross_entropy,
    progress: Progress | None = None,
    optimiser_of: Optimiser = momentum_descent,
    draw: Draw = everything,
) -> float:
    """Train the whole network for one round's share of the epochs.

    Args:
        cortex: changed in place, but for parameters that need no gradient.
        recalled: samples of all tasks; at least one.
        config: schedule and augmentation.
        round_number: from 0; decides the epochs' place in the schedule.
        seed: of order and augmentation.
        dithering: each training scan gets Gaussian noise of a random standard deviation up to this (pixels in
            [0, 1]), which hides how much smoother a recall is than a raw scan; 0 for raw scans.
        objective: the loss.
        progress: called after each epoch.
        optimiser_of: makes what takes the steps.
        draw: which samples an epoch takes.

    Returns:
        The mean loss of the last epoch.
    """
    torch.manual_seed(seed)
    cortex.train()
    device = cortex.device
    images = torch.from_numpy(recalled.images).to(device).permute(0, 3, 1, 2)
    classes = torch.from_numpy(recalled.labels)
    labels = classes.to(device)
    optimiser = optimiser_of(cortex, config)
    first, epochs = epochs_of_round(config.epochs, config.rounds, round_number)
    loss_sum = torch.zeros((), device=device)
    for epoch in range(epochs):
        loss_sum.zero_()
        order = draw(classes).to(device)
        batches = _batches(len(order), config.batch_size)
        for number, place in enumerate(batches):
            chosen = order[place]
            rate = learning_rate(config, (first + epoch + number / len(batches)) / config.epochs)
            for group in optimiser.param_groups:
                group["lr"] = rate
            scans = augment(images[chosen].float() / 255, config, dithering)
            loss = objective(cortex, scans, labels[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            loss_sum += loss.detach() * len(chosen)
        if progress is not None:
            progress(epoch + 1, epochs, f"loss {float(loss_sum) / len(order):.3f}")
    return float(loss_sum) / len(order)


@torch.no_grad()
def calibrate(cortex: Cortex, recalled: Scans, batch_size: int) -> None:
    """Take the statistics of batch normalisation anew, as plain means over the batches of `recalled`.

    Layers that the network keeps in evaluation mode even in training are frozen and stay as they are, and nothing
    else changes. After federated averaging the running statistics belong to no network that exists; without
    this, three hospitals on four kinds of blood cells stayed at chance after the first round.
    """
    cortex.train()
    layers = [m for m in cortex.modules() if isinstance(m, torch.nn.BatchNorm2d) and m.training]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    for place in _batches(len(recalled), batch_size):
        cortex.features(scans_to_tensor(recalled.images[place]).to(cortex.device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _batches(samples: int, size: int) -> list[slice]:
    """Batches of nearly equal size, at most `size`: a last batch of one scan would break batch normalisation."""
    count = -(-samples // size)
    edges = np.linspace(0, samples, count + 1).round().astype(int).tolist()
    return [slice(a, b) for a, b in pairwise(edges)]


def augment(scans: Tensor, config: SleepConfig, dithering: float) -> Tensor:
    """Random crop after reflection padding, random horizontal flip and dithering of scans (B, 3, H, W) in [0, 1]."""
    (count, _, height, width), device = scans.shape, scans.device
    if config.crop_padding:
        pad = config.crop_padding
        padded = functional.pad(scans, (pad,) * 4, mode="reflect")
        tops = torch.randint(0, 2 * pad + 1, (count, 1), device=device) + torch.arange(height, device=device)
        lefts = torch.randint(0, 2 * pad + 1, (count, 1), device=device) + torch.arange(width, device=device)
        samples = torch.arange(count, device=device)[:, None, None]
        scans = padded.permute(0, 2, 3, 1)[samples, tops[:, :, None], lefts[:, None, :]].permute(0, 3, 1, 2)
    if config.flip:
        flipped = torch.rand(count, 1, 1, 1, device=device) < 0.5
        scans = torch.where(flipped, scans.flip(-1), scans)
    if dithering:
        scans = scans + torch.randn_like(scans) * torch.rand(count, 1, 1, 1, device=device) * dithering
    return scans
