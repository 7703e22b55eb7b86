"""Images rebuilt from one update: gradient inversion, two published attacks.

`squared`: Zhu, Liu and Han, "Deep Leakage from Gradients" (2019): L-BFGS on the squared distance between the
gradients of a guessed image and those observed. It comes near the image where the network is smooth and small.
`cosine`: Geiping et al., "Inverting Gradients" (2020): signed Adam on one minus their cosine plus total variation,
for networks with kinks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Attack = Literal["squared", "cosine"]

TOTAL_VARIATION = 1e-4
STEP = 0.1
MOST_STEPS = 4000
STEPS_AT_ONCE = 5
"""Of L-BFGS between looks at the clock; what it knows of the curvature stays."""
SCALE = 1000.0
"""Of the relative distance, so that L-BFGS does not end by its own tolerances."""


@dataclass(frozen=True)
class Inversion:
    """An image rebuilt from an update.

    Attributes:
        image: (C, H, W) in [0, 1].
        distance: how far its gradients lie from those observed, by the attack's own measure: 0 when they are equal.
        steps, seconds: what it took.
    """

    image: Tensor
    distance: float
    steps: int
    seconds: float

    def judged(self, scan: Tensor) -> dict[str, Any]:
        """The figures beside those of a flat image, which has each channel's mean and tells nothing else."""
        return {
            "psnr": decibels(self.image, scan),
            "flat": decibels(scan.mean((1, 2), keepdim=True).expand_as(scan), scan),
            "distance": self.distance,
            "steps": self.steps,
            "seconds": self.seconds,
        }


def decibels(image: Tensor, scan: Tensor) -> float:
    """Peak signal-to-noise ratio of an image in [0, 1], at most 100."""
    return float(-10 * np.log10(max(float(((image - scan) ** 2).mean()), 1e-10)))


def gradients(network: nn.Module, scans: Tensor, labels: Tensor) -> list[Tensor]:
    """What one step of training on scans (B, C, H, W) of classes (B,) tells: the cross-entropy's gradients."""
    loss = functional.cross_entropy(network(scans), labels)
    parameters = [p for p in network.parameters() if p.requires_grad]
    return list(torch.autograd.grad(loss, parameters, create_graph=True))


def invert(
    network: nn.Module, observed: list[Tensor], label: int, shape: tuple[int, int, int], until: float, attack: Attack
) -> Inversion:
    """Rebuild the one scan whose gradients were `observed`.

    Args:
        network: as it was when they were taken, in the same mode.
        observed: one a parameter.
        label: of the scan, which the classifier's biases tell (`update.read`).
        shape: of the scan.
        until: of `time.monotonic`; the attack ends there.
    """
    started = time.monotonic()
    target = [g.detach() for g in observed]
    image = torch.full((1, *shape), 0.5, requires_grad=True)
    truth = torch.tensor([label])
    run = _squared if attack == "squared" else _cosine

    def distance() -> Tensor:
        measure = _relative if attack == "squared" else _angle
        return measure(gradients(network, image, truth), target)

    steps = run(image, distance, until)
    with torch.no_grad():
        image.clamp_(0, 1)
    return Inversion(image.detach()[0], float(distance().detach()), steps, time.monotonic() - started)


def _squared(image: Tensor, distance: Callable[[], Tensor], until: float) -> int:
    optimiser = torch.optim.LBFGS(
        [image],
        max_iter=STEPS_AT_ONCE,
        history_size=50,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-12,
        tolerance_change=1e-14,
    )

    def closure() -> Tensor:
        loss = distance() * SCALE
        (image.grad,) = torch.autograd.grad(loss, image)
        return loss

    steps = 0
    while steps < MOST_STEPS and time.monotonic() < until:
        before = image.detach().clone()
        optimiser.step(closure)  # type: ignore[no-untyped-call]
        steps += STEPS_AT_ONCE
        if torch.equal(before, image.detach()):
            break
    return steps


def _cosine(image: Tensor, distance: Callable[[], Tensor], until: float) -> int:
    optimiser = torch.optim.Adam([image], STEP)
    begun, last = time.monotonic(), time.monotonic()
    steps = 0
    while steps < MOST_STEPS and last < until:
        # The rate falls by the share of steps or of time that is used, whichever is more.
        used = max(steps / MOST_STEPS, (last - begun) / max(until - begun, 1e-9))
        optimiser.param_groups[0]["lr"] = STEP * 0.1 ** sum(used > share for share in (3 / 8, 5 / 8, 7 / 8))
        loss = distance() + TOTAL_VARIATION * _variation(image)
        (slope,) = torch.autograd.grad(loss, image)
        image.grad = slope.sign()
        optimiser.step()
        with torch.no_grad():
            image.clamp_(0, 1)
        steps, last = steps + 1, time.monotonic()
    return steps


def _relative(found: list[Tensor], target: list[Tensor]) -> Tensor:
    """Σ |a − b|² / Σ |b|²."""
    away = torch.stack([((a - b) ** 2).sum() for a, b in zip(found, target, strict=True)]).sum()
    return away / torch.stack([(b**2).sum() for b in target]).sum().clamp_min(1e-30)


def _angle(found: list[Tensor], target: list[Tensor]) -> Tensor:
    """1 − cos of the angle between both, all parameters together."""
    product = torch.stack([(a * b).sum() for a, b in zip(found, target, strict=True)]).sum()
    norms = [torch.stack([(g**2).sum() for g in gs]).sum().sqrt() for gs in (found, target)]
    return 1 - product / (norms[0] * norms[1]).clamp_min(1e-30)


def _variation(image: Tensor) -> Tensor:
    return image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()
