"""The principal components of a task's blocks, as the linear path of both networks."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from braincl_med.memory.metric import Metric, Values, blocks_from, of_kind, spectra_of, transposed
from braincl_med.memory.networks import MemoryShape, PatternCompletion, PatternSeparation, pad
from braincl_med.memory.symmetry import TRANSPOSED, places


@dataclass(frozen=True)
class Components:
    """A principal component analysis of blocks of d = C · height · width numbers.

    Attributes:
        mean: (d,).
        basis: (M, d), a block is mean + coordinates @ basis; orthonormal rows under the plain metric.
        inverse: (M, d), coordinates are (block − mean) @ inverseᵀ.
        deviations: (M,) standard deviations of the coordinates, descending within a kind.
        kinds: (M,) the kind of each (`memory.symmetry`), ascending.
    """

    mean: Tensor
    basis: Tensor
    inverse: Tensor
    deviations: Tensor
    kinds: npt.NDArray[np.int64]


def principal_components(scans: Tensor, shape: MemoryShape, metric: Metric, least: float, count: int) -> Components:
    """The principal components of the blocks of (n, C, H, W) scans in [0, 1] and their mirror images.

    They keep the largest variance that M components can under the metric: with M = L Lᵀ they are those of the blocks
    times L. Mirror images are not made: that all are equally likely means that kinds are uncorrelated and the mean is
    even, so each kind is analysed by itself.

    Args:
        scans: at least one.
        shape: its block.
        metric: its symmetry says under which mirrorings scans are taken to be alike.
        least: components that vary by no more than this are left out, but for the first.
        count: at most as many components, those that vary most.
    """
    block, symmetry = metric.block, metric.symmetry
    spectra = spectra_of(blocks_of(scans, shape), symmetry, block)
    mean = np.zeros(spectra.shape[1])
    even = places(symmetry, 0, block)
    mean[even] = spectra[:, even].mean(0)
    found: list[tuple[int, Values, Values, Tensor]] = []
    for kind, root in enumerate(metric.roots):
        if kind == TRANSPOSED:
            _, rows, inverse, deviations = found[-1]
            found.append((kind, transposed(rows, block), transposed(inverse, block), deviations))
            continue
        vectors, deviations = _analysed(of_kind(spectra - mean, symmetry, kind, block) @ root)
        place = places(symmetry, kind, block)
        rows, inverse = np.zeros((2, len(vectors), spectra.shape[1]))
        rows[:, place] = torch.linalg.solve_triangular(root, vectors, upper=False, left=False).double().numpy()
        inverse[:, place] = (vectors @ root.T).double().numpy()
        found.append((kind, rows, inverse, deviations))
    deviations = torch.cat([d for _, _, _, d in found])
    kinds = np.concatenate([np.full(len(d), kind) for kind, _, _, d in found])
    chosen = _chosen(deviations, kinds, symmetry, least, count)
    basis = np.concatenate([rows for _, rows, _, _ in found])[chosen]
    inverses = np.concatenate([inverse for _, _, inverse, _ in found])[chosen]
    return Components(
        blocks_from(mean[None], symmetry, block)[0],
        blocks_from(basis, symmetry, block),
        blocks_from(inverses, symmetry, block),
        deviations[torch.from_numpy(chosen)],
        kinds[chosen],
    )


def _chosen(
    deviations: Tensor, kinds: npt.NDArray[np.int64], symmetry: int, least: float, count: int
) -> npt.NDArray[np.int64]:
    """Which components are kept, kind by kind."""
    # Ties are the two of a transposed pair, which must stay together.
    with_pairs = symmetry > TRANSPOSED
    fewest = 2 if with_pairs else 1
    order = torch.sort(deviations, descending=True, stable=True).indices.numpy()[: max(fewest, count)]
    kept = order[: max(fewest, int((deviations[torch.from_numpy(order)] > least).sum()))]
    pairs = min((kinds[kept] == TRANSPOSED - 1).sum(), (kinds[kept] == TRANSPOSED).sum())
    return np.concatenate(
        [
            np.sort(kept[kinds[kept] == kind])[: pairs if with_pairs and kind >= TRANSPOSED - 1 else None]
            for kind in range(symmetry)
        ]
    )


def _analysed(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Directions (rows) of largest variance of (n, d) centred values, and the standard deviations along them."""
    if len(centred) >= centred.shape[1]:
        variances, vectors = torch.linalg.eigh(centred.T @ centred)
        basis = vectors.T.flip(0)
    else:
        variances, vectors = torch.linalg.eigh(centred @ centred.T)
        basis = functional.normalize(vectors.T.flip(0) @ centred)
    kept = min(len(basis), max(1, len(centred) - 1))
    return basis[:kept], (variances.flip(0).clamp_min(0) / max(1, len(centred) - 1)).sqrt()[:kept]


def blocks_of(scans: Tensor, shape: MemoryShape) -> Tensor:
    """(n · rows · columns, C · height · width of a block) blocks of (n, C, H, W) scans, scan by scan."""
    height, width = shape.block
    rows, columns = shape.grid
    padded = pad(scans, (rows * height, columns * width))
    return functional.unfold(padded, shape.block, stride=shape.block).transpose(1, 2).flatten(0, 1)


@torch.no_grad()
def start_from_principal_components(
    separation: PatternSeparation, completion: PatternCompletion, found: Components, step: float
) -> None:
    """Make both networks, which need a linear path, compute an analysis with quantiser step `step`, Δ in pixels."""
    if separation.analysis is None or completion.synthesis is None:
        raise ValueError("both networks need a linear path to start from principal components")
    shape = separation.shape
    block = (shape.cue_channels, shape.channels, *shape.block)
    assert separation.analysis.bias is not None
    separation.analysis.weight.copy_((found.inverse / step).reshape(block))
    separation.analysis.bias.copy_(-(found.inverse @ found.mean) / step)
    completion.synthesis.weight.copy_((found.basis * step).reshape(block))
    completion.mean.copy_(found.mean.reshape(completion.mean.shape))
