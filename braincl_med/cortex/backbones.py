"""Backbones: what turns scans into features, by the name that `cortex-network` takes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
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
"""Every backbone of ours by its name; timm's are looked up by theirs."""


@lru_cache(maxsize=8)
def has_batch_statistics(config: CortexConfig) -> bool:
    """Whether the network normalises by statistics of batches, which averaging over hospitals leaves wrong."""
    with torch.device("meta"):
        return any(isinstance(m, nn.BatchNorm2d) for m in backbone_of(config).build(config).modules())


@lru_cache(maxsize=8)
def _of_timm(config: CortexConfig) -> Backbone | None:
    """A network of timm's registry that gives pooled features, None where timm has none of that name.

    Raises:
        ConfigError: timm is not installed, or keys of the ResNet-18 are set beside its name.
    """
    try:
        import timm
    except ModuleNotFoundError:
        raise ConfigError(
            f"cortex-network '{config.network}' needs the package 'timm': pip install '.[backbones]'"
        ) from None
    if not timm.is_model(config.network):
        return None
    defaults = CortexConfig()
    for key in ("stem", "norm"):
        if getattr(config, key) != getattr(defaults, key):
            raise ConfigError(
                f"cortex-{key} '{getattr(config, key)}' belongs to resnet18: "
                f"set cortex-{key}={getattr(defaults, key)} for '{config.network}'"
            )

    def build(config: CortexConfig) -> nn.Module:
        network: nn.Module = timm.create_model(config.network, pretrained=False, num_classes=0)
        return network

    with torch.device("meta"):
        features = int(build(config).num_features)  # type: ignore[arg-type]
    return Backbone(features, build)


def backbone_of(config: CortexConfig) -> Backbone:
    """The kind of backbone that a configuration names.

    Raises:
        ConfigError: there is none of that name.
    """
    found = BACKBONES.get(config.network) or _of_timm(config)
    if found is None:
        raise ConfigError(
            f"there is no backbone '{config.network}' (cortex-network): take {', '.join(BACKBONES)} or a name that "
            "timm.list_models() has"
        )
    return found
