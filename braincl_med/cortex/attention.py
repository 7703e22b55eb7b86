"""Which places of scans speak for a class: Grad-CAM (Selvaraju et al. 2017) by MONAI."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from braincl_med.cortex.cortex import BATCH, Cortex, scans_to_tensor
from braincl_med.foundation.arrays import Images
from braincl_med.foundation.errors import ConfigError

NO_MAPS = "this network has no maps of features, so its answers cannot be explained by Grad-CAM"


class Attention:
    """The maps of one network.

    Args:
        cortex: the network, which is put into evaluation for good.
        size: pixels a side of the scans.

    Raises:
        ConfigError: it has no maps of features, as transformers have none, or they tell nothing.
    """

    def __init__(self, cortex: Cortex, size: int) -> None:
        from monai.visualize import GradCAM  # type: ignore[attr-defined]

        self.cortex = cortex.eval()
        self.maps: Any = GradCAM(nn_module=cortex, target_layers=last_maps(cortex, size))
        try:
            self.of(torch.zeros(1, 3, size, size), 0)
        except Exception as error:  # of a network from elsewhere, whose insides may be any
            raise ConfigError(f"{NO_MAPS} ({type(error).__name__} in a trial)") from error

    def of(self, scans: Tensor, number: int) -> Tensor:
        """(n, h, w) how far each place of scans (n, 3, size, size) in [0, 1] speaks for class `number`, from 0."""
        with torch.enable_grad():
            batch = scans.to(self.cortex.device).requires_grad_()
            found: Tensor = self.maps.compute_map(batch, class_idx=number)
        return found.detach()[:, 0].float().cpu()

    def heat(self, scan: Images, number: int) -> npt.NDArray[np.float32]:
        """(size, size) how far each pixel of a scan (size, size, 3) uint8 speaks for class `number`: 1 most."""
        found = self.of_images(scan[None], number)[:, None]
        found = functional.interpolate(found, scan.shape[:2], mode="bilinear")[0, 0]
        largest = float(found.max())
        heat: npt.NDArray[np.float32] = (found / largest if largest > 0 else found).numpy()
        return heat

    def of_images(self, images: Images, number: int) -> Tensor:
        """As `of`, of scans (n, size, size, 3) uint8, in batches."""
        parts = [images[place : place + BATCH] for place in range(0, len(images), BATCH)]
        return torch.cat([self.of(scans_to_tensor(part), number) for part in parts])


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
