"""The guide: a small network that learns a task's classes from its scans, to tell what of a scan is worth a byte.

Squared error spends bits where pixels vary; a diagnosis often hangs on what varies little. Before a hospital encodes
a task it trains a guide on the scans at hand, and the guide's gradients become the metric (`memory.metric`) under
which components are chosen and inverted. The guide is dropped with the separation network and nothing of it
is stored (docs/decisions/0008-guide.md).
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from braincl_med.foundation.arrays import Images, Labels
from braincl_med.foundation.progress import Progress
from braincl_med.memory.training import as_tensor

WIDTH = 16
BATCH = 64
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 5e-4
SAMPLE, PROJECTIONS = 512, 4
MOST_PASSES = 40
"""Over the scans: a guide of few scans has learned what it can long before."""
COARSEST = 32
"""Pixels a side up to which the first convolution keeps the resolution."""


class Guide(nn.Module):
    """Four convolutions, the mean over positions and a linear classifier: some 60 thousand weights.

    Args:
        channels: of a scan.
        side: its larger side in pixels; above 32 the first convolution strides.
        classes: of the task.
    """

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        stride = -(-side // COARSEST)
        layers: list[nn.Module] = []
        for before, after, kernel, step in (
            (channels, WIDTH, 2 * stride + 1, stride),
            (WIDTH, 2 * WIDTH, 3, 2),
            (2 * WIDTH, 4 * WIDTH, 3, 2),
            (4 * WIDTH, 4 * WIDTH, 3, 1),
        ):
            convolution = nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(4 * WIDTH, classes)

    def features(self, scans: Tensor) -> Tensor:
        """(B, 64) features of scans (B, C, H, W) in [0, 1]."""
        features: Tensor = self.convolutions(2 * scans - 1)
        return features

    def forward(self, scans: Tensor) -> Tensor:
        """(B, classes) logits of scans (B, C, H, W) in [0, 1]."""
        logits: Tensor = self.classifier(self.features(scans))
        return logits


def train_guide(images: Images, labels: Labels, channels: int, steps: int, progress: Progress | None = None) -> Guide:
    """Train a guide on scans (n, height, width, 3), every class equally often, mirrored at random.

    Args:
        images: (n, height, width, 3) uint8 scans of the task.
        labels: (n,) their classes, of which there are at least two.
        channels: 3, or 1 when all scans are grey.
        steps: of 64 scans each; fewer where that is more than 40 passes over the scans.
        progress: called ten times.
    """
    classes, truth = np.unique(labels, return_inverse=True)
    guide = Guide(channels, max(images.shape[1:3]), len(classes)).train()
    optimiser = torch.optim.SGD(guide.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    batch = min(BATCH, len(images))
    steps = min(steps, MOST_PASSES * -(-len(images) // batch))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    draws = torch.multinomial(_shares(truth), steps * batch, replacement=True).reshape(steps, batch)
    for number, chosen in enumerate(draws, 1):
        scans = as_tensor(images[chosen.numpy()], channels)
        for axis in (2, 3):
            scans = torch.where(torch.rand(len(scans), 1, 1, 1) < 0.5, scans.flip(axis), scans)
        loss = functional.cross_entropy(guide(scans), torch.from_numpy(truth[chosen.numpy()]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if progress is not None and number * 10 // steps > (number - 1) * 10 // steps:
            progress(number * 10 // steps, 10, f"guide's loss {loss.item():.2f}")
    return guide.eval()


def gradients_of(guide: Guide, images: Images, labels: Labels, channels: int) -> Tensor:
    """(m, C, H, W) gradients with respect to pixels of random projections of the guide's features.

    E[g gᵀ] of them is E[Jᵀ J] of the features' Jacobian J: by how much the features move when pixels do.

    Args:
        guide: after training.
        images: (n, height, width, 3) uint8 scans of the task.
        labels: (n,) their classes; scans of rare classes are the likelier to be in the sample.
        channels: those of the guide.
    """
    _, truth = np.unique(labels, return_inverse=True)
    sample = torch.multinomial(_shares(truth), min(SAMPLE, len(images)), replacement=False)
    found = []
    for chosen in torch.split(sample, BATCH):
        scans = as_tensor(images[chosen.numpy()], channels).requires_grad_()
        features = guide.features(scans)
        for _ in range(PROJECTIONS):
            projected = (features * torch.randn_like(features)).sum()
            found.append(torch.autograd.grad(projected, scans, retain_graph=True)[0])
    return torch.cat(found)


def _shares(truth: Labels) -> Tensor:
    """(n,) how likely each scan is to be drawn, such that a draw is of every class alike."""
    return torch.from_numpy(1 / np.bincount(truth)[truth])
