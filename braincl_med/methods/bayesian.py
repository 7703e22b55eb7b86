"""A cortex whose weights are Gaussian: each has a mean and a standard deviation, and every use draws it anew."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from braincl_med.cortex.cortex import Cortex, Weights
from braincl_med.settings.config import CortexConfig

PREFIX = "deviation."


class BayesianCortex(Cortex):
    """A cortex of means μ under the cortex's own names, and standard deviations σ as `deviation.<name>`.

    Convolutions and the classifier are Gaussian; normalisation has ordinary parameters. In training every forward
    pass draws all weights, w = μ + σ ε with ε from N(0, 1), for a whole batch at once (reparameterisation, Kingma &
    Welling 2014); in evaluation the network is that of the means.

    Args:
        classes: rows of the classifier.
        config: of the cortex.
    """

    def __init__(self, classes: int, config: CortexConfig) -> None:
        super().__init__(classes, config)
        self.config = config
        self.deviation = nn.Module()
        for name, mean in list(self.named_parameters()):
            if mean.ndim > 1 or name.startswith("classifier."):
                _put(self.deviation, name, nn.Parameter(torch.full_like(mean, _scale(mean, self.classifier))))

    @property
    def gaussian(self) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
        """Mean and deviation of every Gaussian weight by name."""
        return {name: (self.get_parameter(name), sigma) for name, sigma in self.deviation.named_parameters()}

    def draw(self, part: str = "") -> Weights:
        """One draw of the Gaussian weights of submodule `part` (all by default), by their names within it."""
        prefix = f"{part}." if part else ""
        return {
            name.removeprefix(prefix): mean + deviation * torch.randn_like(deviation)
            for name, (mean, deviation) in self.gaussian.items()
            if name.startswith(prefix)
        }

    @torch.no_grad()
    def draws(self, count: int) -> Iterator[Cortex]:
        """An ordinary cortex that is given a new draw of the weights `count` times."""
        means = {name: tensor for name, tensor in self.weights().items() if not name.startswith(PREFIX)}
        cortex = Cortex.of(means, self.config)
        for _ in range(count):
            for name, weight in self.draw().items():
                cortex.get_parameter(name).copy_(weight)
            yield cortex

    def embed(self, scans: Tensor) -> Tensor:
        """(B, width) features of scans (B, 3, H, W) in [-1, 1]."""
        features: Tensor = functional_call(self.backbone, self.draw("backbone") if self.training else {}, (scans,))
        return features

    def forward(self, scans: Tensor) -> Tensor:
        """(B, classes) logits of scans (B, 3, H, W) in [0, 1]."""
        rows = self.draw("classifier") if self.training else {}
        logits: Tensor = functional_call(self.classifier, rows, (self.features(scans),))
        return logits

    def widen(self, classes: int) -> None:
        """Give the classifier rows up to `classes`, keeping the old ones; new ones deviate as in a new network.

        Raises:
            ValueError: it has more rows than that.
        """
        super().widen(classes)
        for name, mean in self.classifier.named_parameters():
            former = self.deviation.get_parameter(f"classifier.{name}")
            deviation = torch.full_like(mean, _scale(mean, self.classifier))
            deviation[: len(former)] = former.detach()
            _put(self.deviation, f"classifier.{name}", nn.Parameter(deviation))


def _scale(weight: Tensor, classifier: nn.Linear) -> float:
    """1/√inputs: the standard deviation of weights that keep the variance of what they are applied to."""
    inputs = weight[0].numel() if weight.ndim > 1 else classifier.in_features
    return float(inputs**-0.5)


def _put(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Register a parameter under a dotted name; the modules on the way are made where they are missing."""
    *path, last = name.split(".")
    for part in path:
        if part not in dict(module.named_children()):
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    module.register_parameter(last, parameter)
