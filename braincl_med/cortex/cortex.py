"""The cortex: a backbone, and a linear classifier with a row for every class seen."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from braincl_med.cortex.backbones import backbone_of
from braincl_med.cortex.projection import Projection
from braincl_med.cortex.reduction import Reduction
from braincl_med.foundation.devices import accelerator, bfloat16_is_fast
from braincl_med.settings.config import CortexConfig

BATCH = 256
Weights = dict[str, Tensor]
Tensors = Mapping[str, Tensor]
"""Weights that are only looked at, wherever they lie."""


class Cortex(nn.Module):
    """A backbone f and a classifier c; `forward` gives the logits c(f(x)).

    Args:
        classes: rows of the classifier.
        config: of the backbone, and how it computes.

    Raises:
        ConfigError: there is no such backbone.
    """

    def __init__(self, classes: int, config: CortexConfig) -> None:
        super().__init__()
        kind = backbone_of(config)
        reduced_to = config.features or kind.features
        self.width = config.projection or reduced_to
        self.input = config.input
        self.backbone = kind.build(config)
        self.reduction = Reduction(kind.features, config.features) if config.features else None
        self.projection = Projection(reduced_to, config.projection) if config.projection else None
        self.classifier = nn.Linear(self.width, classes)
        new_rows(self.classifier, 0)
        reduced = config.precision == "bfloat16" or (config.precision == "auto" and bfloat16_is_fast())
        self.precision = torch.bfloat16 if reduced else torch.float32
        # In single precision a CPU takes a sixth longer with channels last (docs/results/throughput.md).
        self.layout = torch.channels_last if reduced or accelerator().type == "cuda" else torch.contiguous_format
        self.to(memory_format=self.layout)
        if config.compile:
            self.backbone.compile()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.classifier.weight.device

    def features(self, scans: Tensor) -> Tensor:
        """(B, width) features of scans (B, 3, H, W) in [0, 1]."""
        if self.input is not None and scans.shape[-1] != self.input:
            scans = functional.interpolate(scans, (self.input, self.input), mode="bilinear", antialias=True)
        scans = ((scans - 0.5) / 0.5).contiguous(memory_format=self.layout)
        with torch.autocast(scans.device.type, self.precision, enabled=self.precision != torch.float32):
            features = self.embed(scans)
        features = features.float() if self.reduction is None else self.reduction(features)
        return features if self.projection is None else self.projection(features)

    def embed(self, scans: Tensor) -> Tensor:
        """(B, width) features of scans (B, 3, H, W) in [-1, 1]; other networks put their own backbones here."""
        features: Tensor = self.backbone(scans)
        return features

    def forward(self, scans: Tensor) -> Tensor:
        """(B, classes) logits of scans (B, 3, H, W) in [0, 1]."""
        logits: Tensor = self.classifier(self.features(scans))
        return logits

    def widen(self, classes: int) -> None:
        """Give the classifier rows up to `classes`, keeping the old ones; new rows are Kaiming uniform, bias 0.

        Raises:
            ValueError: it has more rows than that.
        """
        old = self.classifier
        if classes < old.out_features:
            raise ValueError(f"the classifier has {old.out_features} rows, it cannot shrink to {classes}")
        self.classifier = nn.Linear(old.in_features, classes, device=self.device)
        new_rows(self.classifier, old.out_features)
        with torch.no_grad():
            self.classifier.weight[: old.out_features] = old.weight
            self.classifier.bias[: old.out_features] = old.bias

    def weights(self) -> Weights:
        """A copy of all tensors by name, on the CPU."""
        tensors = self.state_dict().items()
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors}

    @classmethod
    def of(cls, weights: Weights, config: CortexConfig) -> Self:
        """The cortex with these weights on the accelerator; the classifier's width is taken from them."""
        with torch.device("meta"):
            cortex = cls(len(weights["classifier.bias"]), config)
        return cortex.holding(weights)

    def holding(self, weights: Weights) -> Self:
        """Itself, made without memory or initialisation, with copies of these weights on the accelerator."""
        device = accelerator()
        self.load_state_dict({name: tensor.to(device, copy=True) for name, tensor in weights.items()}, assign=True)
        return self.to(memory_format=self.layout)


@torch.no_grad()
def new_rows(classifier: nn.Linear, start: int) -> None:
    """Initialise the rows from `start` on: Kaiming uniform weights, zero bias.

    They are drawn on the CPU, so that all hospitals begin from the same rows whatever they compute on.
    """
    if start < classifier.out_features and not classifier.weight.is_meta:
        rows = torch.empty(classifier.weight[start:].shape)
        classifier.weight[start:] = nn.init.kaiming_uniform_(rows, a=5**0.5).to(classifier.weight.device)
        classifier.bias[start:] = 0


def scans_to_tensor(images: npt.NDArray[np.uint8]) -> Tensor:
    """Scans (n, h, w, 3) uint8 as (n, 3, h, w) float in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


@contextmanager
def evaluating(cortex: Cortex) -> Iterator[None]:
    """Frozen statistics and no gradients inside; the former mode afterwards."""
    mode = cortex.training
    cortex.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        cortex.train(mode)


def extract_features(cortex: Cortex, images: npt.NDArray[np.uint8]) -> Tensor:
    """(n, d) features of scans (n, h, w, 3), statistics frozen, in batches, on the CPU."""
    batches = (scans_to_tensor(images[i : i + BATCH]) for i in range(0, len(images), BATCH))
    with evaluating(cortex):
        parts = [cortex.features(scans.to(cortex.device)).cpu() for scans in batches]
    return torch.cat(parts) if parts else torch.zeros(0, cortex.classifier.in_features)


def classify(cortex: Cortex, features: Tensor) -> npt.NDArray[np.float32]:
    """(n, classes) logits of features (n, d)."""
    with evaluating(cortex):
        logits: npt.NDArray[np.float32] = cortex.classifier(features.to(cortex.device)).cpu().numpy()
    return logits


def predict(cortex: Cortex, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(n, classes) logits of scans (n, h, w, 3), statistics frozen, in batches."""
    return classify(cortex, extract_features(cortex, images))


def apart(weights: Weights, prefix: str) -> tuple[Weights, Weights]:
    """The shared network's tensors, and those with `prefix` that travel or lie beside them."""
    beside = {name: tensor for name, tensor in weights.items() if name.startswith(prefix)}
    return {name: tensor for name, tensor in weights.items() if name not in beside}, beside
