"""Which part of a scan an answer hangs on: Grad-CAM (Selvaraju et al. 2017) by MONAI, laid over the scan."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from braincl_med.cortex.cortex import Cortex
from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.files import write_whole
from braincl_med.inference.answer import Answer
from braincl_med.inference.model import Model
from braincl_med.inference.network import pixels
from braincl_med.inference.reading import Pixels

LEAST_SIDE = 224
"""Pixels a side of an overlay at least: a scan of 28 px is too small to look at."""
STRENGTH = 0.6
"""Of the colour where the map is 1; at 0 the scan is seen as it is."""
NO_MAPS = "this network has no maps of features, so its answers cannot be explained by Grad-CAM: leave --explain out"
HOT = np.array([40.0, 255.0, 90.0])
"""Green: what red would hide on smears and the eye's ground."""
LONGEST_NAME = 80
"""Bytes of a scan's name in that of its overlay."""


class Maps:
    """Says which places of a scan speak for a class.

    Args:
        model: whose answers are explained.

    Raises:
        ConfigError: its network has no maps of features, as transformers have none, or they tell nothing.
    """

    def __init__(self, model: Model) -> None:
        from monai.visualize import GradCAM  # type: ignore[attr-defined]

        self.cortex = Cortex.of(model.weights, model.cortex).eval()
        layer = last_maps(self.cortex, model.size)
        self.maps: Any = GradCAM(nn_module=self.cortex, target_layers=layer)
        try:
            self.of(np.zeros((model.size, model.size, 3), np.uint8), 0)
        except Exception as error:  # of a network from elsewhere, whose insides may be any
            raise ConfigError(f"{NO_MAPS} ({type(error).__name__} in a trial)") from error

    def of(self, scan: Pixels, number: int) -> npt.NDArray[np.float32]:
        """(size, size) how much each place speaks for class `number`: 1 most, 0 not at all."""
        batch = pixels(torch.tensor(scan)[None].to(self.cortex.device))
        with torch.enable_grad():
            found: Tensor = self.maps.compute_map(batch.requires_grad_(), class_idx=number)
        found = nn.functional.interpolate(found.detach(), scan.shape[:2], mode="bilinear")[0, 0].cpu()
        largest = float(found.max())
        heat: npt.NDArray[np.float32] = (found / largest if largest > 0 else found).numpy()
        return heat


class Explainer:
    """Draws overlays into a folder, numbered in the order in which they are asked for.

    Args:
        model: whose answers are explained.
        folder: made if it is missing.

    Raises:
        ConfigError: as `Maps`.
    """

    def __init__(self, model: Model, folder: Path) -> None:
        self.maps, self.folder, self.drawn = Maps(model), folder, 0

    def draw(self, file: Path, scan: Pixels, answer: Answer) -> str:
        """Write the overlay of a scan (size, size, 3) and its answer; returns the picture's name.

        Raises:
            VaultError: it cannot be written.
        """
        self.drawn += 1
        plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in file.stem)
        # By bytes, of which a letter may have four: so many a file system lets a name have. The number tells apart.
        short = plain.encode()[:LONGEST_NAME].decode(errors="ignore")
        name = f"{self.drawn:06d}-{short}.png"
        buffer = BytesIO()
        Image.fromarray(overlay(scan, self.maps.of(scan, answer.number))).save(buffer, "PNG")
        write_whole(self.folder / name, buffer.getvalue(), shared=True)
        return name


def last_maps(cortex: Cortex, size: int) -> str:
    """The name of the module that gives the last maps of features with more than one place.

    Transformers have maps at their very beginning, where a scan is cut up; after these come rows of features, or
    maps whose channels are last.

    Raises:
        ConfigError: there is none, or features are no maps any more after it.
    """
    names: list[str | None] = []
    hooks = []

    def hook(name: str) -> Any:
        def seen(module: nn.Module, given: Any, made: Any) -> None:
            if not isinstance(made, Tensor) or made.ndim not in (3, 4):
                return
            _, *sides, last = made.shape
            if made.ndim == 4 and sides[1] == last > 1:
                names.append(name)
            elif sides[0] > 1 and (made.ndim == 3 or sides[0] == sides[1]):
                names.append(None)

        return seen

    for name, module in cortex.named_modules():
        if name.startswith("backbone."):
            hooks.append(module.register_forward_hook(hook(name)))
    with torch.no_grad():
        cortex(torch.zeros(1, 3, size, size, device=cortex.device))
    for registered in hooks:
        registered.remove()
    if not names or names[-1] is None:
        raise ConfigError(NO_MAPS)
    return names[-1]


def overlay(scan: Pixels, heat: npt.NDArray[np.float32]) -> Pixels:
    """The scan (size, size, 3), enlarged, coloured where `heat` (size, size) is high."""
    times = -(-LEAST_SIDE // len(scan))
    large = scan.repeat(times, 0).repeat(times, 1).astype(np.float64)
    share = STRENGTH * heat.repeat(times, 0).repeat(times, 1)[..., None]
    blended: Pixels = np.rint((1 - share) * large + share * HOT).astype(np.uint8)
    return blended
