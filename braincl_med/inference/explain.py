"""Which part of a scan an answer hangs on: Grad-CAM (`cortex.attention`), laid over the scan."""

from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from braincl_med.cortex.attention import Attention
from braincl_med.cortex.cortex import Cortex
from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.files import write_whole
from braincl_med.inference.answer import Answer
from braincl_med.inference.model import Model
from braincl_med.inference.reading import Pixels

LEAST_SIDE = 224
"""Pixels a side of an overlay at least: a scan of 28 px is too small to look at."""
STRENGTH = 0.6
"""Of the colour where the map is 1; at 0 the scan is seen as it is."""
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
        try:
            self.attention = Attention(Cortex.of(model.weights, model.cortex), model.size)
        except ConfigError as error:
            raise ConfigError(f"{error}: leave --explain out") from error

    def of(self, scan: Pixels, number: int) -> npt.NDArray[np.float32]:
        """(size, size) how much each place speaks for class `number`: 1 most, 0 not at all."""
        return self.attention.heat(scan, number)


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


def overlay(scan: Pixels, heat: npt.NDArray[np.float32]) -> Pixels:
    """The scan (size, size, 3), enlarged, coloured where `heat` (size, size) is high."""
    times = -(-LEAST_SIDE // len(scan))
    large = scan.repeat(times, 0).repeat(times, 1).astype(np.float64)
    share = STRENGTH * heat.repeat(times, 0).repeat(times, 1)[..., None]
    blended: Pixels = np.rint((1 - share) * large + share * HOT).astype(np.uint8)
    return blended
