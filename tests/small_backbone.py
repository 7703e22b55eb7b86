"""A backbone of two convolutions, for tests in which the size of the network proves nothing."""

from torch import nn

from braincl_med.cortex.backbones import BACKBONES, Backbone


class SmallBackbone(nn.Module):
    """Scans (B, 3, H, W) to features (B, width)."""

    def __init__(self, width, norm="batch"):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 5, stride=4, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(32) if norm == "batch" else nn.GroupNorm(4, 32)
        self.conv2 = nn.Conv2d(32, width, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(4, width)

    def forward(self, scans):
        maps = self.bn1(self.conv1(scans)).relu()
        return self.bn2(self.conv2(maps)).relu().mean((2, 3))


BACKBONES["small"] = Backbone(64, lambda config: SmallBackbone(64, config.norm))
BACKBONES["small-512"] = Backbone(512, lambda config: SmallBackbone(512, config.norm))
