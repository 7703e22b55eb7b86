"""A fixed random map to more features, none below zero (RanPAC, McDonnell et al. 2023, arXiv 2307.02251).

    f ↦ max(0, f W),   W of normal random numbers of variance 1 / width

Classes that no plane separates in a backbone's features may be separated by one in many such products.
"""

import torch
from torch import Tensor, nn


class Projection(nn.Module):
    """From `width` features to `size`; the map is drawn when it is made, and travels with the network."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.randn(width, size) / width**0.5)
        self.matrix: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """(B, size) features of (B, width)."""
        projected: Tensor = (features @ self.matrix).relu()
        return projected
