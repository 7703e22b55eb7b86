"""The entropy model E: how many bits a cue will take (eq. 2 and 3 of the paper)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

SEGMENTS = 48
LEAST_PROBABILITY = 1e-9


class PiecewiseLinearEntropy(nn.Module):
    """A monotone piecewise-linear CDF for each channel of the cue, with learned knots.

    Knot positions are a start plus a running sum of positive widths, their heights a running sum of a softmax, so the
    CDF rises from 0 to 1 whatever the parameters are. `p(q) = CDF(q + ½) − CDF(q − ½)`.

    Args:
        cues: (n, M, rows, columns) cues at the start of training; the knots are spread over their range, densely near
            their median, and the heights start at their empirical CDF.
    """

    def __init__(self, cues: Tensor) -> None:
        super().__init__()
        values = cues.detach().transpose(0, 1).flatten(1).float()
        middle = values.median(dim=1, keepdim=True).values
        reach = (values - middle).abs().amax(1, keepdim=True) * 2 + 16
        # Knots at sinh-spaced distances: about half a symbol apart near the median, wide in the tails.
        bend = torch.asinh(reach / 0.5)
        positions = middle + 0.5 * torch.sinh(torch.linspace(-1, 1, SEGMENTS + 1, device=values.device) * bend)
        smoothed = torch.cat([values - 0.25, values + 0.25], dim=1)
        ordered = smoothed.sort(dim=1).values
        below = torch.searchsorted(ordered, positions.contiguous()).float() / ordered.shape[1]
        prior = 0.5 + 0.5 * (positions - middle).sign() * (1 - torch.exp(-(positions - middle).abs()))
        heights = (0.98 * below + 0.02 * prior).diff(dim=1).clamp_min(1e-7)
        self.start = nn.Parameter(positions[:, :1].clone())
        self.widths = nn.Parameter(_inverse_softplus(positions.diff(dim=1)))
        self.heights = nn.Parameter(heights.log())

    def cdf(self, values: Tensor) -> Tensor:
        """The CDF at `values` (M, n), channel by channel; 0 and 1 outside the knots."""
        knots = torch.cat([self.start, self.start + functional.softplus(self.widths).cumsum(1)], dim=1)
        mass = self.heights.softmax(1)
        levels = torch.cat([torch.zeros_like(self.start), mass.cumsum(1)], dim=1)
        segment = torch.searchsorted(knots.detach().contiguous(), values.detach().contiguous(), right=True) - 1
        segment = segment.clamp(0, SEGMENTS - 1)
        left, right = knots.gather(1, segment), knots.gather(1, segment + 1)
        share = ((values - left) / (right - left)).clamp(0, 1)
        return levels.gather(1, segment) + share * mass.gather(1, segment)

    def forward(self, cues: Tensor) -> Tensor:
        """The mean number of bits per cue element (eq. 3) of real-valued or integer cues (B, M, rows, columns)."""
        values = cues.transpose(0, 1).flatten(1)
        probability = self.cdf(values + 0.5) - self.cdf(values - 0.5)
        return -probability.clamp_min(LEAST_PROBABILITY).log2().mean()


def _inverse_softplus(values: Tensor) -> Tensor:
    """The argument at which softplus gives `values`; exact for large values, where expm1 would overflow."""
    return torch.where(values > 20, values, torch.expm1(values.clamp_max(20)).clamp_min(1e-12).log())
