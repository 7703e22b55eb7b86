"""A split of a data set as a source found it in one look."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from braincl_med.foundation.arrays import Images, Positions


@dataclass(frozen=True)
class Held:
    """Labels, and the scans that they belong to: both of one look, so that no change in between can part them.

    Attributes:
        labels: (n,) numbers or texts as `ClassSpec.label`.
        images: the scans (m, size, size, 3) at m positions, in that order; DataError if they are no longer those.
        patients: (n,) whose scans they are, equal for equal patients; None where nobody says.
        groups: (n,) tuples of the groups of patients that each belongs to; None where nobody says.
    """

    labels: npt.NDArray[Any]
    images: Callable[[Positions], Images]
    patients: npt.NDArray[Any] | None = None
    groups: npt.NDArray[Any] | None = None
