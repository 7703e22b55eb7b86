"""Backbones: what turns scans into features, by the name that `cortex-network` takes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn
from torchvision.models import resnet18 as torchvision_resnet18

from braincl_med.foundation.errors import ConfigError
from braincl_med.settings.config import CortexConfig

GROUPS = 32


@dataclass(frozen=True)
class Backbone:
    """A kind of network without a classifier.

    Attributes:
        features: how many numbers it makes of a scan.
        build: a new one, with initial weights: scans (B, 3, H, W) in [-1, 1] to features (B, features).
    """

    features: int
    build: Callable[[CortexConfig], nn.Module]


def resnet18(config: CortexConfig) -> nn.Module:
    """Torchvision's ResNet-18 (He et al. 2016) without its classifier.

    `stem: 3x3` replaces the stem by one 3×3 convolution of stride 1 (or 2: `3x3-stride2`) without max-pooling, for
    scans of 28 px; `norm: group` replaces batch by group normalisation.
    """
    norm = partial(nn.GroupNorm, GROUPS) if config.norm == "group" else nn.BatchNorm2d
    backbone: nn.Module = torchvision_resnet18(weights=None, norm_layer=norm)
    backbone.fc = nn.Identity()
    if config.stem != "imagenet":
        stride = 2 if config.stem == "3x3-stride2" else 1
        backbone.conv1 = nn.Conv2d(3, 64, 3, stride=stride, padding=1, bias=False)
        backbone.maxpool = nn.Identity()
        nn.init.kaiming_normal_(backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
    return backbone


BACKBONES: dict[str, Backbone] = {"resnet18": Backbone(512, resnet18)}
"""Every backbone by its name."""


def backbone_of(config: CortexConfig) -> Backbone:
    """The kind of backbone that a configuration names.

    Raises:
        ConfigError: there is none of that name.
    """
    if config.network not in BACKBONES:
        raise ConfigError(
            f"there is no backbone '{config.network}' (cortex-network); there are: {', '.join(BACKBONES)}"
        )
    return BACKBONES[config.network]
