"""Dreams: a conditional generator of one task's scans, which MyGO keeps in place of the scans.

Conditional GAN (Mirza & Osindero 2014) with the non-saturating loss (Goodfellow et al. 2014). MyGO's source has
`mlp`: generator and discriminator of one hidden layer. Scans of 28 px in colour are too much for it, so the default
is `convolutional`: nearest-neighbour upsampling and 3×3 convolutions against strided convolutions. In both, the
discriminator meets the class by projection (Miyato & Koyama 2018), and its slope at real scans is penalised
(Mescheder et al. 2018), without which all dreams of a class looked alike. The discriminator is thrown away.

Kept of a task are the generator's weights as float16, the numbers of its classes and how many scans each had.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from braincl_med.cortex.cortex import scans_to_tensor
from braincl_med.foundation.devices import accelerator
from braincl_med.methods.kept import Arrays
from braincl_med.settings.methods import MygoConfig
from braincl_med.streams.tasks import Scans

SMALLEST = 4
"""The convolutional generator starts from maps of at least this many pixels a side."""
WIDEST = 4
"""It has at most this many times `CHANNELS` channels."""
NOISE = 64
"""Length of the noise and of the class embedding."""
CHANNELS = 16
"""Of the convolutional generator's layer next to the scan."""
HIDDEN_UNITS = 128
"""Of the `mlp`, as in MyGO's source."""
TRAINING_BATCH = 64
LEARNING_RATE = 1e-3
BATCH = 256
SLOPE = 0.2
BETAS = (0.5, 0.999)
SLOPE_PENALTY = 5.0
WEIGHTS = "generator."


def halvings(size: int) -> int:
    """How often `size` pixels can be halved without a remainder and without falling below `SMALLEST`."""
    return 0 if size % 2 or size // 2 < SMALLEST else 1 + halvings(size // 2)


class Generator(nn.Module):
    """Scans of given classes out of noise.

    Args:
        size: pixels a side.
        colours: 3, or 1 for grey scans.
        classes: how many.
        kind: `convolutional` or `mlp`.
    """

    def __init__(self, size: int, colours: int, classes: int, kind: str) -> None:
        super().__init__()
        self.noise = NOISE
        self.shape = (colours, size, size)
        self.classes = nn.Embedding(classes, NOISE)
        self.body: nn.Sequential
        if kind == "mlp":
            self.body = nn.Sequential(
                nn.Linear(2 * NOISE, HIDDEN_UNITS),
                nn.ReLU(),
                nn.Linear(HIDDEN_UNITS, colours * size * size),
            )
            return
        doublings = halvings(size)
        widths = [CHANNELS * min(WIDEST, 2**i) for i in reversed(range(doublings + 1))]
        base = size >> doublings
        layers: list[nn.Module] = [
            nn.Linear(2 * NOISE, widths[0] * base * base),
            nn.Unflatten(1, (widths[0], base, base)),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        ]
        for before, after in pairwise(widths):
            layers += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers, nn.Conv2d(widths[-1], colours, 3, padding=1))

    def forward(self, noise: Tensor, classes: Tensor) -> Tensor:
        """(B, colours, size, size) in [-1, 1] of noise (B, noise) and classes (B,) numbered from 0."""
        made: Tensor = self.body(torch.cat([noise, self.classes(classes)], 1))
        return made.reshape(-1, *self.shape).tanh()


class Discriminator(nn.Module):
    """Tells real scans of given classes from dreams; the arguments are the generator's."""

    def __init__(self, size: int, colours: int, classes: int, kind: str) -> None:
        super().__init__()
        if kind == "mlp":
            width = HIDDEN_UNITS
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(colours * size * size, width), nn.LeakyReLU(SLOPE))
        else:
            halved = halvings(size)
            widths = [CHANNELS * min(WIDEST, 2**i) for i in range(halved + 1)]
            layers: list[nn.Module] = [nn.Conv2d(colours, widths[0], 3, padding=1), nn.LeakyReLU(SLOPE)]
            for before, after in pairwise(widths):
                layers += [nn.Conv2d(before, after, 4, 2, padding=1), nn.LeakyReLU(SLOPE)]
            self.body = nn.Sequential(*layers, nn.Flatten())
            width = widths[-1] * (size >> halved) ** 2
        self.real = nn.Linear(width, 1)
        self.classes = nn.Embedding(classes, width)

    def forward(self, scans: Tensor, classes: Tensor) -> Tensor:
        """(B,) logits of being real."""
        features = self.body(scans)
        logits: Tensor = self.real(features)[:, 0] + (self.classes(classes) * features).sum(1)
        return logits


@dataclass(frozen=True)
class Dreamer:
    """What is kept of one task at a hospital.

    Attributes:
        generator: in evaluation mode.
        numbers: (classes,) class numbers of the registry, in the order of the generator's classes.
        counts: (classes,) how many scans it was trained on.
    """

    generator: Generator
    numbers: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    def arrays(self) -> Arrays:
        """To be kept; floating point becomes float16."""
        tensors = {f"{WEIGHTS}{name}": t for name, t in self.generator.state_dict().items() if t.is_floating_point()}
        return {
            "numbers": self.numbers,
            "counts": self.counts,
            "shape": np.array(self.generator.shape[:2], np.int64),
            **{name: tensor.half().numpy() for name, tensor in tensors.items()},
        }

    @staticmethod
    def of(arrays: Arrays, kind: str) -> "Dreamer":
        """The inverse of `arrays`, but for the rounding to float16."""
        numbers, counts = arrays["numbers"].astype(np.int64), arrays["counts"].astype(np.int64)
        colours, size = arrays["shape"].tolist()
        generator = Generator(size, colours, len(numbers), kind)
        state = {
            name.removeprefix(WEIGHTS): torch.from_numpy(array.astype(np.float32))
            for name, array in arrays.items()
            if name.startswith(WEIGHTS)
        }
        # Only the step counters of batch normalisation are missing, which evaluation does not read.
        generator.load_state_dict(state, strict=False)
        return Dreamer(generator.eval(), numbers, counts)

    @torch.no_grad()
    def dream(self, seed: int) -> Scans:
        """As many new scans of each class as there were real ones."""
        source = torch.Generator().manual_seed(seed)
        places = np.repeat(np.arange(len(self.numbers)), self.counts)
        parts = []
        for start in range(0, len(places), BATCH):
            classes = torch.from_numpy(places[start : start + BATCH])
            made = self.generator(torch.randn(len(classes), self.generator.noise, generator=source), classes)
            pixels = ((made + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
            parts.append(pixels if pixels.shape[-1] == 3 else np.repeat(pixels, 3, axis=-1))
        return Scans(np.concatenate(parts), self.numbers[places])


def learn_to_dream(scans: Scans, config: MygoConfig, seed: int) -> Dreamer:
    """Train a generator on scans of one task.

    Args:
        scans: at least one; three equal channels are learned as one.
        config: kind and steps.
        seed: of the initial weights, the batches and the noise.
    """
    torch.manual_seed(seed)
    numbers, places, counts = np.unique(scans.labels, return_inverse=True, return_counts=True)
    real, classes = scans_to_tensor(scans.images) * 2 - 1, torch.from_numpy(places)
    if bool((real == real[:, :1]).all()):
        real = real[:, :1]
    device = accelerator()
    real, classes = real.to(device), classes.to(device)
    generator = Generator(real.shape[-1], real.shape[1], len(numbers), config.generator).to(device)
    discriminator = Discriminator(real.shape[-1], real.shape[1], len(numbers), config.generator).to(device)
    improve, discern = (
        torch.optim.Adam(network.parameters(), LEARNING_RATE, BETAS) for network in (generator, discriminator)
    )
    for _ in range(config.generator_steps):
        chosen = torch.randint(len(real), (TRAINING_BATCH,))
        asked = classes[chosen]
        dreams = generator(torch.randn(len(chosen), NOISE).to(device), asked)
        seen = real[chosen].requires_grad_()
        judged = discriminator(seen, asked)
        (slope,) = torch.autograd.grad(judged.sum(), seen, create_graph=True)
        loss = functional.softplus(-judged).mean() + functional.softplus(discriminator(dreams.detach(), asked)).mean()
        loss = loss + SLOPE_PENALTY / 2 * slope.square().flatten(1).sum(1).mean()
        _update(discern, loss)
        _update(improve, functional.softplus(-discriminator(dreams, asked)).mean())
    return Dreamer(generator.eval().cpu(), numbers, counts)


def _update(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
