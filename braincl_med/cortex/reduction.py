"""A fixed linear map to fewer features of bounded length, learned from public scans and from no others.

    f ↦ y / max(1, ‖y‖),   y = (f − centre) · basis

Under the basis the classes of public scans have equal variance in all directions, and the directions that are kept
are those in which public scans differ most: what noise of one size in every direction disturbs least. Half of the
public scans are shorter than 1, the others are cut to it, in training and in use alike; so what one scan adds to a
sum is bounded by construction.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

SHRINKAGE = 0.1
CUT = 0.5
"""Share of public scans that are shorter than 1: on validation scans better than 0.9 at every ε (docs/privacy.md)."""


class Reduction(nn.Module):
    """From `width` features to `kept`; zero until a known start fills it."""

    def __init__(self, width: int, kept: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("basis", torch.zeros(width, kept))
        self.centre: Tensor
        self.basis: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """(B, kept) features, none longer than 1, of (B, width)."""
        reduced: Tensor = (features.float() - self.centre) @ self.basis
        bounded: Tensor = reduced / reduced.norm(dim=1, keepdim=True).clamp_min(1)
        return bounded


def fit_reduction(features: Tensor, labels: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Centre (width,) and basis (width, kept) by public scans.

    Args:
        features: (n, width) of public scans, more than one.
        labels: (n,) their classes, numbered from 0 without gaps.
        kept: directions, at most `width`.
    """
    values = features.double()
    centre = values.mean(0)
    centred = values - centre
    members = functional.one_hot(labels.long()).double()
    means = members.T @ centred / members.sum(0)[:, None]
    within = centred - means[labels.long()]
    spread, directions = torch.linalg.eigh(within.T @ within / len(values))
    least = SHRINKAGE * spread.mean() + torch.finfo(torch.float32).tiny
    whitening = directions / (spread.clamp_min(0) + least).sqrt()
    whitened = centred @ whitening
    _, leading = torch.linalg.eigh(whitened.T @ whitened)
    basis = whitening @ leading.flip(1)[:, :kept]
    return centre.float(), (basis / (centred @ basis).norm(dim=1).quantile(CUT)).float()
