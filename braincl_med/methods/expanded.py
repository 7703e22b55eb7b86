"""A cortex that gets one more backbone with every task, as DER needs it (Yan et al. 2021)."""

import copy
from typing import Self

import torch
from torch import Tensor, nn

from braincl_med.cortex.cortex import Cortex, Weights, new_rows
from braincl_med.settings.config import CortexConfig


class ExpandedCortex(Cortex):
    """Backbones whose features stand side by side, one classifier on all of them, and an auxiliary one on the newest.

    Tensors are named `backbone.*` for the first task's backbone, `added.0.*`, `added.1.*`, … for the later ones,
    `classifier.*`, and `auxiliary.*`: row 0 for "of an earlier task", then one for each of the newest classes. All
    backbones but the newest are frozen: they need no gradient and stay in evaluation mode even in training.

    Args:
        classes: rows of the classifier; of one backbone, until `widen`.
        config: of every backbone.
    """

    def __init__(self, classes: int, config: CortexConfig) -> None:
        super().__init__(classes, config)
        self.added = nn.ModuleList()
        self.auxiliary = nn.Linear(self.width, 1 + classes)
        new_rows(self.auxiliary, 0)

    @property
    def backbones(self) -> list[nn.Module]:
        """All backbones, the oldest first."""
        return [self.backbone, *self.added]

    def embed(self, scans: Tensor) -> Tensor:
        """(B, width × backbones) features of scans (B, 3, H, W) in [-1, 1]."""
        *frozen, newest = self.backbones
        with torch.no_grad():
            old = [backbone(scans) for backbone in frozen]
        return torch.cat([*old, newest(scans)], 1)

    def widen(self, classes: int) -> None:
        """Add a backbone, a copy of the newest before it, and rows and columns of the classifier for it.

        Old rows keep their weights for old features; all others are Kaiming uniform. The auxiliary classifier starts
        anew. Nothing happens when there are no new classes.

        Raises:
            ValueError: it has more rows than that.
        """
        former = self.classifier
        known = former.out_features
        if classes <= known:
            super().widen(classes)
            return
        self._add_backbone()
        self._new_classifiers(classes, classes - known)
        with torch.no_grad():
            self.classifier.weight[:known, : former.in_features] = former.weight
            self.classifier.bias[:known] = former.bias

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode, but for frozen backbones: their batch statistics must not change."""
        super().train(mode)
        for backbone in self.backbones[:-1]:
            backbone.eval()
        return self

    @classmethod
    def of(cls, weights: Weights, config: CortexConfig) -> Self:
        """The network with these weights; the numbers of backbones and of rows are taken from them."""
        classes = len(weights["classifier.bias"])
        with torch.device("meta"):
            cortex = cls(classes, config)
            for _ in range(weights["classifier.weight"].shape[1] // cortex.width - 1):
                cortex._add_backbone()
            cortex._new_classifiers(classes, len(weights["auxiliary.bias"]) - 1)
        return cortex.holding(weights)

    def _add_backbone(self) -> None:
        """Freeze the newest backbone and put a copy of it after it."""
        newest = self.backbones[-1]
        self.added.append(copy.deepcopy(newest))
        newest.requires_grad_(False)
        self.train(self.training)

    def _new_classifiers(self, classes: int, new: int) -> None:
        """Both classifiers anew, wide enough for all backbones, `classes` and `new` classes of the newest task."""
        device = self.device
        self.classifier = nn.Linear(self.width * len(self.backbones), classes, device=device)
        self.auxiliary = nn.Linear(self.width, 1 + new, device=device)
        new_rows(self.classifier, 0)
        new_rows(self.auxiliary, 0)


def trainable(weights: Weights) -> Weights:
    """All tensors but those of frozen backbones."""
    added = len({name.split(".")[1] for name in weights if name.startswith("added.")})
    frozen = tuple(["backbone.", *(f"added.{i}." for i in range(added))][:-1])
    return {name: tensor for name, tensor in weights.items() if not name.startswith(frozen)}
