"""How like a scan is to what the memory recalls: the Mahalanobis distance of its features (Lee et al. 2018).

The classifier's own confidence is blind to what lies beyond all that it was trained on: dark fundus photographs move
features so far that the logits of a network of blood cells and x-rays grow with them. The recalled samples, which a
hospital keeps anyway, say where features of known scans lie; the moments of all hospitals, where the server has them,
say it of classes too that this hospital never held.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from braincl_med.cortex.cortex import Weights
from braincl_med.cortex.gaussians import SHARES, SHRINKAGE, gaussians


@dataclass(frozen=True)
class Familiarity:
    """Gaussians of the classes that are remembered, whitened.

    Attributes:
        centres: (classes, d) means of the features of each class, times `whitening`.
        whitening: (d, d) matrix W with WWᵀ = Σ⁻¹.
        classes: the numbers of these classes, of which there were samples; one a centre.
    """

    centres: Tensor
    whitening: Tensor
    classes: tuple[int, ...]

    @classmethod
    def of(cls, told: Weights, shrinkage: float = SHRINKAGE) -> Self:
        """Fit to the moments of the features of at least one known sample."""
        means, covariance = gaussians(told, shrinkage)
        whitening = torch.linalg.inv(torch.linalg.cholesky(covariance)).T
        return cls(means @ whitening, whitening, tuple(torch.nonzero(told[SHARES] > 0)[:, 0].tolist()))

    def scores(self, features: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """(n,) minus the Mahalanobis distance of features (n, d) from the nearest class: 0 is most familiar."""
        points = torch.from_numpy(features).double() @ self.whitening
        distances: npt.NDArray[np.float64] = (
            torch.cdist(points, self.centres, compute_mode="donot_use_mm_for_euclid_dist").amin(1).numpy()
        )
        return -distances
