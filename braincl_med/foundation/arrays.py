"""Names of arrays that many rooms exchange."""

from typing import Literal

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
"""Scans (n, height, width, 3); grey ones have three equal channels."""
Labels = npt.NDArray[np.int64]
"""Class numbers or labels (n,)."""
Positions = npt.NDArray[np.int64]
"""Positions in another array."""
Split = Literal["train", "val", "test"]
