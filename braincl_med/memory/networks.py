"""Pattern separation and pattern completion.

    scan x ──► pattern separation S ──► z ──round──► cue q ──► pattern completion G ──► recall x̂
               strided convolutions                             transposed convolutions
             + linear path A (x − mean)                       + linear path B q + mean
                                                              then refining convolutions

Only with the strided and transposed convolutions, and with four down-samplings, these are the paper's networks
(`recipe: paper`). The default recipe has the linear path instead, the principal components of the task's scans (one
block a cue cell); refining convolutions at full resolution may learn what a linear map cannot say.
Files of format version 1 may have a linear path beside transposed convolutions.
"""

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from braincl_med.foundation.errors import VaultError
from braincl_med.memory.symmetry import SYMMETRIES

KERNEL = 5
REFINING_KERNEL = 3
FIXED_BASIS = "dct"
"""A basis that no scan taught (`memory.fixed`)."""
PUBLIC_BASIS = "public"
"""A basis that other scans taught than the task's, stored like the task's own."""
WIDTHS = {"paper": (128, 192), "small": (32, 48)}
"""Channels N of the hidden layers and M of the cue, by preset."""


@dataclass(frozen=True)
class MemoryShape:
    """All that must be known to build the networks of a task.

    Attributes:
        channels: 3, or 1 when all scans are grey and only one channel is kept.
        height, width: pixels of a scan.
        cue_channels: M, channels of the cue.
        hidden_channels: N, channels of the hidden layers; 0 when there is only the linear path.
        down_samplings: how many times the resolution is halved.
        linear: whether there is a linear path.
        refining_channels: channels of the refining convolutions' hidden layers; 0 when there are none.
        kinds: how many of the cue's channels are components of each kind (`memory.symmetry`), in this order; empty
            when there is one kind.
        basis: `PUBLIC_BASIS`, `FIXED_BASIS`, or empty where the task's scans taught the linear path's components.
    """

    channels: int
    height: int
    width: int
    cue_channels: int
    hidden_channels: int
    down_samplings: int
    linear: bool
    refining_channels: int = 0
    kinds: tuple[int, ...] = ()
    basis: str = ""

    def __post_init__(self) -> None:
        limits = {
            "channels": (1, 3),
            "height": (8, 1024),
            "width": (8, 1024),
            "cue_channels": (1, 4096),
            "hidden_channels": (0 if self.linear else 1, 1024),
            "down_samplings": (2, 6),
            "refining_channels": (0, 256),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise VaultError(f"memory shape: {name} is {value!r}, expected {low} to {high}")
        if type(self.linear) is not bool:
            raise VaultError(f"memory shape: linear is {self.linear!r}, expected true or false")
        if self.channels == 2:
            raise VaultError("memory shape: channels is 2, expected 1 or 3")
        self._check_kinds()
        if self.basis not in ("", PUBLIC_BASIS, FIXED_BASIS):
            raise VaultError(f"memory shape: basis is {str(self.basis)[:20]!r}, expected 'public', 'dct' or nothing")
        whole = (self.channels, self.hidden_channels, self.linear, self.refining_channels, self.kinds)
        if self.basis == FIXED_BASIS and whole != (3, 0, True, 0, ()):
            raise VaultError("memory shape: a fixed basis has three channels and a linear path alone")

    def _check_kinds(self) -> None:
        """Kinds as a tuple, though JSON has lists."""
        if not isinstance(self.kinds, list | tuple):
            raise VaultError(f"memory shape: kinds is {self.kinds!r}, expected a list of numbers")
        kinds = tuple(self.kinds)
        object.__setattr__(self, "kinds", kinds)
        if not kinds:
            return
        if not self.linear or any(type(n) is not int or n < 0 for n in kinds) or sum(kinds) != self.cue_channels:
            raise VaultError(f"memory shape: kinds are {list(kinds)}, expected the {self.cue_channels} cue channels")
        square = self.block[0] == self.block[1] and kinds[-2:-1] == kinds[-1:]
        if len(kinds) not in SYMMETRIES[1:] or (len(kinds) == SYMMETRIES[-1] and not square):
            raise VaultError(f"memory shape: kinds are {list(kinds)}, which no symmetry has")

    @property
    def symmetry(self) -> int:
        """The symmetry of the linear path, by its number of kinds."""
        return len(self.kinds) or 1

    @property
    def block(self) -> tuple[int, int]:
        """Pixels that one cell of the cue stands for in the linear path."""
        cell = 2**self.down_samplings
        return min(cell, self.height), min(cell, self.width)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the cue."""
        cell = 2**self.down_samplings
        return -(-self.height // cell), -(-self.width // cell)

    @property
    def cue(self) -> tuple[int, int, int]:
        """The shape (M, rows, columns) of one cue."""
        return (self.cue_channels, *self.grid)

    def as_json(self) -> dict[str, Any]:
        """The shape as it stands in a cue file's header; up to version 3 a basis is the task's own."""
        told = {**asdict(self), "kinds": list(self.kinds)}
        return told if self.basis else {key: value for key, value in told.items() if key != "basis"}


def pad(scans: Tensor, size: tuple[int, int]) -> Tensor:
    """Extend (B, C, H, W) by reflection at the bottom and right to (B, C, *size)."""
    rows, columns = size[0] - scans.shape[-2], size[1] - scans.shape[-1]
    if rows == 0 and columns == 0:
        return scans
    mode = "reflect" if rows < scans.shape[-2] and columns < scans.shape[-1] else "replicate"
    return functional.pad(scans, (0, columns, 0, rows), mode=mode)


class PatternSeparation(nn.Module):
    """S: (B, C, H, W) scans in [0, 1] to (B, M, rows, columns) real-valued cues z. Deleted once a task is encoded."""

    def __init__(self, shape: MemoryShape) -> None:
        super().__init__()
        self.shape = shape
        self.convolutions: nn.Sequential | None = None
        if shape.hidden_channels:
            widths = [shape.channels, *[shape.hidden_channels] * (shape.down_samplings - 1), shape.cue_channels]
            layers: list[nn.Module] = []
            for before, after in pairwise(widths):
                layers += [nn.Conv2d(before, after, KERNEL, stride=2, padding=KERNEL // 2), nn.ReLU()]
            self.convolutions = nn.Sequential(*layers[:-1])
        self.analysis = (
            nn.Conv2d(shape.channels, shape.cue_channels, shape.block, stride=shape.block) if shape.linear else None
        )

    def forward(self, scans: Tensor) -> Tensor:
        """Real-valued cues z of a batch of scans."""
        rows, columns = self.shape.grid
        cues = scans.new_zeros(())
        if self.convolutions is not None:
            cell = 2**self.shape.down_samplings
            cues = cues + self.convolutions(pad(scans, (rows * cell, columns * cell)))
        if self.analysis is not None:
            height, width = self.shape.block
            cues = cues + self.analysis(pad(scans, (rows * height, columns * width)))
        return cues


class PatternCompletion(nn.Module):
    """G: (B, M, rows, columns) cues to (B, C, H, W) recalled scans. Kept for good beside a task's cues."""

    def __init__(self, shape: MemoryShape) -> None:
        super().__init__()
        self.shape = shape
        self.convolutions: nn.Sequential | None = None
        if shape.hidden_channels:
            widths = [shape.cue_channels, *[shape.hidden_channels] * (shape.down_samplings - 1), shape.channels]
            layers: list[nn.Module] = []
            for before, after in pairwise(widths):
                layers += [
                    nn.ConvTranspose2d(before, after, KERNEL, stride=2, padding=KERNEL // 2, output_padding=1),
                    nn.ReLU(),
                ]
            self.convolutions = nn.Sequential(*layers[:-1])
        self.synthesis: nn.ConvTranspose2d | None = None
        if shape.linear:
            self.synthesis = nn.ConvTranspose2d(
                shape.cue_channels, shape.channels, shape.block, stride=shape.block, bias=False
            )
            self.mean = nn.Parameter(torch.zeros(shape.channels, *shape.block))
        self.refinement: nn.Sequential | None = None
        if shape.refining_channels:
            widths = [shape.channels, shape.refining_channels, shape.refining_channels, shape.channels]
            layers = []
            for before, after in pairwise(widths):
                layers += [nn.Conv2d(before, after, REFINING_KERNEL, padding=REFINING_KERNEL // 2), nn.ReLU()]
            self.refinement = nn.Sequential(*layers[:-1])

    def forward(self, cues: Tensor) -> Tensor:
        """Recalls x̂ of a batch of cues, not yet clamped to [0, 1]."""
        height, width = self.shape.height, self.shape.width
        scans = cues.new_zeros(())
        if self.convolutions is not None:
            scans = scans + self.convolutions(cues)[..., :height, :width]
        if self.synthesis is not None:
            linear = self.synthesis(cues) + self.mean.repeat(1, *self.shape.grid)
            scans = scans + linear[..., :height, :width]
        if self.refinement is not None:
            scans = scans + self.refinement(scans)
        return scans


def parameters_of(shape: MemoryShape) -> int:
    """How many numbers a completion network of this shape has; none is allocated to count them."""
    with torch.device("meta"):
        return sum(p.numel() for p in PatternCompletion(shape).parameters())


@torch.no_grad()
def with_refinement(completion: PatternCompletion, channels: int) -> PatternCompletion:
    """The same linear path and refining convolutions that change nothing yet; itself if `channels` is 0."""
    if not channels:
        return completion
    refined = PatternCompletion(replace(completion.shape, refining_channels=channels))
    refined.load_state_dict(completion.state_dict(), strict=False)
    assert refined.refinement is not None
    for parameter in refined.refinement[-1].parameters():
        parameter.zero_()
    return refined
