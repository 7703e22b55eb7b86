"""How like a scan is to what the memory recalls: the Mahalanobis distance of its features (Lee et al. 2018).

The classifier's own confidence is blind to what lies beyond all that it was trained on: dark fundus photographs move
features so far that the logits of a network of blood cells and x-rays grow with them. The recalled samples, which a
hospital keeps anyway, say where features of known scans lie.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

SHRINKAGE = 0.1
LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Familiarity:
    """Gaussians of the classes that one hospital remembers, in feature space, with one covariance for all.

    Attributes:
        means: (classes, d) of the features of each class.
        whitening: (d, d) matrix W with WWᵀ = Σ⁻¹.
    """

    means: Matrix
    whitening: Matrix

    @classmethod
    def of(
        cls, features: npt.NDArray[np.floating], labels: npt.NDArray[np.int64], shrinkage: float = SHRINKAGE
    ) -> Self:
        """Fit to the features (n, d) of known samples.

        Args:
            features: of at least one sample.
            labels: (n,) classes of the samples.
            shrinkage: this share of the mean variance is added to the variance of every feature, so that few samples
                of many features have an inverse.

        Raises:
            ValueError: there are no samples.
        """
        if not len(features):
            raise ValueError("familiarity needs the features of at least one sample, got none")
        values = features.astype(np.float64)
        present, classes = np.unique(labels, return_inverse=True)
        means = np.stack([values[classes == number].mean(0) for number in range(len(present))])
        centred = values - means[classes]
        variances, axes = np.linalg.eigh(centred.T @ centred / len(values))
        # Samples that are all alike have no variance.
        added = max(shrinkage * float(variances.mean()), LEAST_VARIANCE)
        return cls(means, axes / np.sqrt(variances.clip(0) + added))

    def scores(self, features: npt.NDArray[np.floating]) -> Matrix:
        """(n,) minus the Mahalanobis distance of features (n, d) from the nearest class: 0 is most familiar."""
        points, centres = features.astype(np.float64) @ self.whitening, self.means @ self.whitening
        nearest = np.full(len(points), np.inf)
        for centre in centres:
            nearest = np.minimum(nearest, np.linalg.norm(points - centre, axis=1))
        return -nearest
