"""What a change of a scan's pixels matters to a diagnosis.

A metric M weighs a change δ of a block's pixels by δᵀ M δ; the plain one is the squared error. From gradients g of
what a guide sees (`memory.guide`), with guidance γ,

    M = (1 − γ) I + γ E[g gᵀ] / mean diagonal

so that a change of average direction still weighs one. M is kept by kind (`memory.symmetry`): where scans and their
mirror images are equally likely, so are the gradients, and kinds do not mix.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from braincl_med.memory.symmetry import TRANSPOSED, from_spectrum, places, spectrum

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A metric of blocks of d = C · height · width pixels.

    Attributes:
        symmetry: a key of `memory.symmetry`.
        block: (C, height, width).
        roots: L of M = L Lᵀ for each kind, lower triangular, over the kind's places.
    """

    symmetry: int
    block: tuple[int, int, int]
    roots: tuple[Tensor, ...]

    @classmethod
    def plain(cls, symmetry: int, block: tuple[int, int, int]) -> Self:
        """The squared error of pixels."""
        return cls(symmetry, block, tuple(torch.eye(len(places(symmetry, k, block))) for k in range(symmetry)))

    @classmethod
    def of(cls, gradients: Tensor, symmetry: int, block: tuple[int, int, int], guidance: float) -> Self:
        """The metric of gradients (n, d) at share `guidance`, below 1; plain where there are none or all are zero."""
        spectra = spectra_of(gradients, symmetry, block)
        products = [
            (rows.T @ rows).double() / max(1, len(rows))
            for rows in (of_kind(spectra, symmetry, kind, block) for kind in range(symmetry))
        ]
        mean = sum(float(product.trace()) for product in products) / spectra.shape[1]
        if mean == 0 or guidance == 0:
            return cls.plain(symmetry, block)
        metrics = [(1 - guidance) * torch.eye(len(p), dtype=p.dtype) + guidance * p / mean for p in products]
        return cls(symmetry, block, tuple(torch.linalg.cholesky(metric).float() for metric in metrics))

    def error(self, changes: Tensor) -> float:
        """Sum of δᵀ M δ over changes (n, d) of pixels."""
        spectra = spectra_of(changes, self.symmetry, self.block)
        total = 0.0
        for kind, root in enumerate(self.roots):
            mine = torch.from_numpy(spectra[:, places(self.symmetry, kind, self.block)]).float()
            total += float((mine @ root).square().sum())
        return total

    def inverse(self, basis: Tensor, kinds: npt.NDArray[np.int64]) -> Tensor:
        """(M, d) rows that find the coordinates of a block under a basis (M, d) with the least error.

        Args:
            basis: rows, each with the places of its kind alone.
            kinds: (M,) of the rows.
        """
        spectra = spectra_of(basis, self.symmetry, self.block)
        rows = np.zeros_like(spectra)
        for kind, root in enumerate(self.roots):
            mine = np.ix_(kinds == kind, places(self.symmetry, kind, self.block))
            weighed = torch.from_numpy(spectra[mine]) @ root.double()
            rows[mine] = (root.double() @ torch.linalg.pinv(weighed)).T.numpy()
        return blocks_from(rows, self.symmetry, self.block)


def spectra_of(blocks: Tensor, symmetry: int, block: tuple[int, int, int]) -> Values:
    """(n, d) spectra (`memory.symmetry`) of flattened blocks (n, d)."""
    return spectrum(blocks.double().numpy().reshape(-1, *block), symmetry).reshape(tuple(blocks.shape))


def blocks_from(spectra: Values, symmetry: int, block: tuple[int, int, int]) -> Tensor:
    """The inverse of `spectra_of`."""
    pixels = from_spectrum(spectra.reshape(-1, *block), symmetry).reshape(spectra.shape)
    return torch.from_numpy(pixels.astype(np.float32))


def of_kind(spectra: Values, symmetry: int, kind: int, block: tuple[int, int, int]) -> Tensor:
    """What spectra (n, d) have at the places of a kind; with transposition also what they have when transposed."""
    mine = places(symmetry, kind, block)
    rows = spectra[:, mine]
    if symmetry > TRANSPOSED and kind >= TRANSPOSED - 1:
        rows = np.concatenate([rows, transposed(spectra, block)[:, mine]])
    return torch.from_numpy(rows.astype(np.float32))


def transposed(spectra: Values, block: tuple[int, int, int]) -> Values:
    """(rows, d) spectra with height and width exchanged."""
    return spectra.reshape(-1, *block).swapaxes(-1, -2).reshape(spectra.shape)
