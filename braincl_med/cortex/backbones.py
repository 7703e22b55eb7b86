"""Backbones: what turns scans into features, by the name that `cortex-network` takes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

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


class _Block(BasicBlock):  # type: ignore[misc]
    """Torchvision's residual block without operations in place, which gradients of single samples do not survive."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of the next block, bit for bit torchvision's."""
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(maps)))))
        outer: Tensor = self.relu(inner + (maps if self.downsample is None else self.downsample(maps)))
        return outer


def resnet18(config: CortexConfig) -> nn.Module:
    """Torchvision's ResNet-18 (He et al. 2016) without its classifier.

    `stem: 3x3` replaces the stem by one 3×3 convolution of stride 1 (or 2: `3x3-stride2`) without max-pooling, for
    scans of 28 px; `norm: group` replaces batch by group normalisation.
    """
    norm = partial(nn.GroupNorm, GROUPS) if config.norm == "group" else nn.BatchNorm2d
    backbone: nn.Module = ResNet(_Block, [2, 2, 2, 2], norm_layer=norm)
    backbone.relu = nn.ReLU()
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
        ConfigError: timm is not installed, keys of the ResNet-18 are set beside its name, or as `_width`.
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
        network = build(config).eval()
    return Backbone(_width(network, config), build)


def _width(network: nn.Module, config: CortexConfig) -> int:
    """How many numbers a network of timm makes of a scan, by its answer to one: `num_features` may be others.

    Raises:
        ConfigError: it takes no such scan, gives no pooled features, or holds tensors that are no weights, which
            would not travel.
    """
    told: Any = network
    side = config.input or told.pretrained_cfg["input_size"][-1]
    try:
        with torch.no_grad():
            features = network(torch.zeros(1, 3, side, side, device="meta"))
    except Exception as error:  # whatever a network of a thousand raises
        raise ConfigError(
            f"cortex-network '{config.network}' cannot be used here: it takes no scan of {side} pixels a side "
            f"(cortex-input), or none without its data ({type(error).__name__})"
        ) from error
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise ConfigError(f"cortex-network '{config.network}' cannot be used here: it gives no pooled features")
    if beside := dict(network.named_buffers()).keys() - network.state_dict().keys():
        raise ConfigError(
            f"cortex-network '{config.network}' cannot be used here: it needs '{min(beside)}', which its weights "
            "do not hold"
        )
    return features.shape[1]


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
