"""From scans to logits, probabilities and a score of familiarity: one module, which answers here and is exported.

    uint8 scans ─► [0, 1] ─► features ─┬─► classifier ─► logits ─► softmax(logits / T)
                                       └─► distance from the nearest class that is remembered ─► score

Without a memory the score is the largest probability before calibration.
"""

from typing import Self

import torch
from torch import Tensor, nn

from braincl_med.cortex.cortex import Cortex
from braincl_med.cortex.familiarity import Familiarity
from braincl_med.inference.model import Model


class Network(nn.Module):
    """A network in use; it is never trained.

    Args:
        cortex: the learned network.
        temperature: of its probabilities.
        familiarity: by which scans are scored; without it they are by the largest softmax probability.
    """

    centres: Tensor
    whitening: Tensor

    def __init__(self, cortex: Cortex, temperature: float, familiarity: Familiarity | None) -> None:
        super().__init__()
        self.cortex = cortex
        self.temperature = temperature
        self.familiar = familiarity is not None
        if familiarity is not None:
            self.register_buffer("centres", familiarity.centres)
            self.register_buffer("whitening", familiarity.whitening)
        self.eval().requires_grad_(False)

    @classmethod
    def of(cls, model: Model) -> Self:
        """The network of a model on the accelerator."""
        cortex = Cortex.of(model.weights, model.cortex)
        return cls(cortex, model.temperature, model.familiarity).to(cortex.device)

    def forward(self, scans: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Answers to scans.

        Args:
            scans: (n, size, size, 3) uint8.

        Returns:
            Logits (n, classes), calibrated probabilities (n, classes) and scores (n,): minus the Mahalanobis distance
            of the features from the nearest class, in double precision as it is measured, or the largest probability
            before calibration.
        """
        features = self.cortex.features(pixels(scans))
        logits = self.cortex.classifier(features)
        probabilities = torch.softmax(logits / self.temperature, 1)
        if not self.familiar:
            return logits, probabilities, surest(logits)
        offsets = (features.double() @ self.whitening)[:, None] - self.centres
        return logits, probabilities, -offsets.square().sum(2).sqrt().amin(1)


def surest(logits: Tensor) -> Tensor:
    """(n,) the largest softmax probability of logits (n, classes) before calibration, in double precision."""
    return torch.softmax(logits.double(), 1).amax(1)


def pixels(scans: Tensor) -> Tensor:
    """Scans (n, h, w, 3) uint8 as the cortex takes them: (n, 3, h, w) in [0, 1]."""
    return scans.permute(0, 3, 1, 2).float() / 255
