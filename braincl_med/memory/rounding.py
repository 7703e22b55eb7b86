"""Rounding of a fitted completion network: how coarse, and what its rounding asks of the other network."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from braincl_med.foundation.arrays import Images
from braincl_med.memory.components import blocks_of
from braincl_med.memory.metric import Metric
from braincl_med.memory.networks import PatternCompletion, PatternSeparation
from braincl_med.memory.training import as_tensor
from braincl_med.memory.weights import CodedTensor, pack, round_weights, sensitivities, unpack

SENSITIVITY_SAMPLE = 64
ERROR_SAMPLE = 512
BATCH = 256
WORTH_OF_A_BIT = math.log(2) / 6
"""By how much one more bit lowers the squared error of a value rounded with step 1, whose error is 1 / 12."""
LARGEST_LOSS = 0.1
"""What rounding the paper's completion network may cost the recalls, in dB."""
COARSEST_STEP, FINEST_STEP = 1.0, 1e-5
Rounded = tuple[PatternCompletion, dict[str, CodedTensor]]


@torch.no_grad()
def round_linear_path(
    separation: PatternSeparation,
    completion: PatternCompletion,
    images: Images,
    metric: Metric,
    step: float,
) -> dict[str, CodedTensor]:
    """Round the linear path and make separation its least-squares inverse.

    A weight moves one pixel of a block by its cue element, so its sensitivity is that element's sum of squares.

    Args:
        separation, completion: with a linear path; changed in place, after which the cues are final.
        images: (n, height, width, 3) uint8.
        metric: of the error that is least.
        step: t of `memory.weights`, in pixels.

    Returns:
        The rounded tensors of the linear path.
    """
    assert separation.analysis is not None
    assert separation.analysis.bias is not None
    assert completion.synthesis is not None
    power = np.zeros(completion.shape.cue_channels)
    for start in range(0, len(images), BATCH):
        cues = separation(as_tensor(images[start : start + BATCH], completion.shape.channels)).round()
        power += (cues.double() ** 2).sum((0, 2, 3)).numpy()
    blocks = np.array([float(len(images) * math.prod(completion.shape.grid))])
    coded = round_weights(completion, {"synthesis.weight": power, "mean": blocks}, step)
    for name, tensor in coded.items():
        parameter = completion.get_parameter(name)
        parameter.copy_(tensor.tensor(name, parameter.shape, completion.shape.kinds))
    kinds = np.repeat(np.arange(metric.symmetry), completion.shape.kinds or (completion.shape.cue_channels,))
    inverse = metric.inverse(completion.synthesis.weight.flatten(1), kinds)
    separation.analysis.weight.copy_(inverse.reshape(separation.analysis.weight.shape))
    separation.analysis.bias.copy_(-(inverse @ completion.mean.flatten()))
    return coded


@torch.no_grad()
def cost_of_linear_path(
    separation: PatternSeparation,
    completion: PatternCompletion,
    coded: dict[str, CodedTensor],
    images: Images,
    metric: Metric,
    cue_step: float,
) -> float:
    """What a rounded linear path costs: error of all recalls under a metric + slope · bits of cues and network.

    Args:
        separation, completion, coded: after `round_linear_path`.
        images: (n, height, width, 3) uint8; error and bits of the cues are measured on a sample of them.
        metric: of the error.
        cue_step: of the cues' quantiser, in pixels; sets the slope.
    """
    cues, scans = _sample(separation, images, ERROR_SAMPLE)
    channels = cues.swapaxes(0, 1).flatten(1)
    counts = [torch.unique(channel, return_counts=True)[1].double() for channel in channels]
    bits = sum(-float((n * (n / n.sum()).log2()).sum()) for n in counts)
    error = metric.error(blocks_of(completion(cues) - scans, completion.shape))
    share = len(images) / len(scans)
    return share * (error + WORTH_OF_A_BIT * cue_step**2 * bits) + WORTH_OF_A_BIT * cue_step**2 * 8 * len(
        pack(completion, coded)
    )


def round_refinement(
    separation: PatternSeparation,
    completion: PatternCompletion,
    linear: dict[str, CodedTensor],
    images: Images,
    step: float,
    cue_step: float,
    seed: int,
) -> Rounded:
    """Round the refining convolutions as coarsely as pays, or drop them where they do not pay at all.

    The worth of a rounding is error + slope · bits, with the slope at which the cues' own quantiser trades them.

    Args:
        separation, completion: after training.
        linear: the rounded tensors of the linear path.
        images: (n, height, width, 3) uint8.
        step: t of `memory.weights`, in pixels; halvings of it are tried.
        cue_step: of the cues' quantiser, in pixels; sets the slope.
        seed: of the sensitivities.
    """
    plain = PatternCompletion(replace(completion.shape, refining_channels=0))
    plain.load_state_dict({n: t for n, t in completion.state_dict().items() if not n.startswith("refinement")})
    candidates: list[Rounded] = [(plain, linear)]
    if completion.refinement is not None:
        cues, _ = _sample(separation, images, SENSITIVITY_SAMPLE)
        worth = sensitivities(completion, cues, len(images), seed)
        refining = {name: h for name, h in worth.items() if name not in linear}
        candidates += [
            (completion, linear | round_weights(completion, refining, step / 2**halvings)) for halvings in range(6)
        ]
    cues, scans = _sample(separation, images, ERROR_SAMPLE)

    def cost(rounded: Rounded) -> float:
        bits = 8 * len(pack(*rounded))
        return len(images) * _error(rounded, cues, scans) * scans[0].numel() + WORTH_OF_A_BIT * cue_step**2 * bits

    return min(candidates, key=cost)


def round_all(
    separation: PatternSeparation, completion: PatternCompletion, images: Images, step: float | None, seed: int
) -> Rounded:
    """Round every tensor with `step`, or as coarsely as costs at most 0.1 dB when there is none.

    The paper's networks have many more weights than their recalls need, so what a bit is worth says little there.
    """
    cues, scans = _sample(separation, images, SENSITIVITY_SAMPLE)
    worth = sensitivities(completion, cues, len(images), seed)
    if step is not None:
        return completion, round_weights(completion, worth, step)
    with torch.no_grad():
        exact = float(functional.mse_loss(completion(cues), scans))
    step = COARSEST_STEP
    while True:
        rounded = completion, round_weights(completion, worth, step)
        if step < FINEST_STEP or _error(rounded, cues, scans) <= exact * 10 ** (LARGEST_LOSS / 10):
            return rounded
        step /= 1.5


@torch.no_grad()
def _sample(separation: PatternSeparation, images: Images, count: int) -> tuple[Tensor, Tensor]:
    """Cues and scans of `count` scans, evenly spread over the task."""
    chosen = torch.linspace(0, len(images) - 1, min(len(images), count)).long()
    scans = as_tensor(images[chosen.numpy()], separation.shape.channels)
    return separation(scans).round(), scans


@torch.no_grad()
def _error(rounded: Rounded, cues: Tensor, scans: Tensor) -> float:
    """The mean squared error of the rounded network's recalls."""
    completion, coded = rounded
    network = unpack(pack(completion, coded), completion.shape)[0]
    return float(functional.mse_loss(network(cues), scans))
