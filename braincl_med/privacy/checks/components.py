"""A scan memorised in a completion network: in rows that no record uses, or in rows that show it as it is.

The linear path of a completion network is a mean and one picture a component. Its rows are free numbers, so one of
them, or a few together, may be a scan. Two things give that away:

    a component that no record uses        serves no recall; hospitals write none (`vault.pruning`)
    a few rows that show a scan better     the combination that is nearest to the scan: of neighbouring rows and the
    than its recall does                   mean, and of those rows that orthogonal matching pursuit finds
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from braincl_med.foundation.arrays import Images
from braincl_med.memory.coding import Cues
from braincl_med.memory.components import blocks_of
from braincl_med.memory.networks import PatternCompletion
from braincl_med.memory.training import as_tensor
from braincl_med.vault.cuefile import CueFile
from braincl_med.vault.pruning import has_components, used_channels

MOST_ROWS = 16
"""Rows that are combined to show a scan."""
MARGIN_DB, MARGIN_A_ROW_DB = 4.0, 0.4
"""By how much rows must show a scan better than its recall. Honest ones do by what the rounding of cues costs: over
20 fits of 2 to 500 scans of four MedMNIST sets at most 2.6 dB for 4 rows, 3.9 for 8 and 6.3 for 16."""
LEAST_CONTRAST = 4 / 255
"""Standard deviation of pixels below which a block is blank, and anything shows it."""
BATCH = 256
WINDOWS = (2, 4, 8, 16)
"""Numbers of neighbouring rows that are looked at together; of other numbers a larger window holds them."""
Values = npt.NDArray[np.float64]
Found = dict[int, tuple[tuple[int, ...], float]]
"""By scan: the rows that show it, and their decibels."""


@dataclass(frozen=True)
class Shown:
    """A scan that rows show better than its recall.

    Attributes:
        scan: its place among those compared.
        rows: which, -1 being the mean.
        psnr, recall: decibels of what the rows show, and of the recall.
    """

    scan: int
    rows: tuple[int, ...]
    psnr: float
    recall: float

    def said(self, records: Sequence[str]) -> str:
        """In words that follow a file's name; `records` are the names of those compared."""
        rows = ", ".join("the mean" if row < 0 else str(row) for row in self.rows)
        return (
            f"shows the scan of {records[self.scan]} at {self.psnr:.1f} dB in component {rows}, its recall has "
            f"{self.recall:.1f} dB"
        )


def unused(file: CueFile, cues: dict[int, Cues]) -> list[int]:
    """The components of a file's network that none of its cues uses; they serve no recall."""
    if not has_components(file):
        return []
    return np.flatnonzero(~used_channels(file.shape, cues)).tolist()


def shown_scans(network: PatternCompletion, recalls: Images, originals: Images) -> Iterator[Shown]:
    """The scans that up to 16 rows of a linear path show better than their recalls, each once.

    Args:
        network: of the memory.
        recalls, originals: (n, h, w, 3), pair by pair.
    """
    if network.synthesis is None:
        return
    shape = network.shape
    pictures = network.synthesis.weight.detach().flatten(1).double().numpy()
    atoms = _centred(
        np.concatenate([pictures, network.mean.detach().double().numpy().reshape(1, -1)]), shape.channels
    )
    lengths = np.linalg.norm(atoms, axis=1)
    atoms /= np.maximum(lengths, 1e-9)[:, None]
    blocks = int(np.prod(shape.grid))
    for start in range(0, len(originals), BATCH):
        scans, recalled = (
            blocks_of(as_tensor(images[start : start + BATCH], shape.channels), shape).double().numpy()
            for images in (originals, recalls)
        )
        flat = scans.std(1) < LEAST_CONTRAST
        of_recall = _decibels(((scans - recalled) ** 2).mean(1))
        scans = _centred(scans, shape.channels)
        found = _pursued(scans, atoms, of_recall)
        found |= _in_windows(scans, atoms, of_recall)
        told = set()
        for place, (rows, reached) in sorted(found.items()):
            scan = start + place // blocks
            if scan not in told and not flat[place]:
                told.add(scan)
                named = tuple(-1 if row == len(pictures) else row for row in rows)
                yield Shown(scan, named, reached, float(of_recall[place]))


def _in_windows(scans: Values, atoms: Values, of_recall: Values) -> Found:
    """The scans (n, d) that neighbouring atoms and the last one show by a margin better than their recalls."""
    products, gram, energy = scans @ atoms.T, atoms @ atoms.T, (scans**2).sum(1)
    rows, found = len(atoms) - 1, Found()
    for size in WINDOWS:
        size = min(size, rows)
        starts = np.arange(rows - size + 1)
        inside = np.column_stack([starts[:, None] + np.arange(size), np.full(len(starts), rows)])
        inverse = np.linalg.pinv(gram[inside[:, :, None], inside[:, None, :]], rcond=1e-6, hermitian=True)
        of_atoms = products[:, inside]
        explained = np.einsum("nwk,wkl,nwl->nw", of_atoms, inverse, of_atoms, optimize=True)
        best = explained.argmax(1)
        reached = _decibels((energy - explained.max(1)).clip(0) / scans.shape[1])
        for scan in np.flatnonzero(reached > of_recall + MARGIN_DB + MARGIN_A_ROW_DB * size).tolist():
            found.setdefault(scan, (tuple(inside[best[scan]].tolist()), float(reached[scan])))
    return found


def _pursued(scans: Values, atoms: Values, of_recall: Values) -> Found:
    """Orthogonal matching pursuit of scans (n, d) by atoms (m, d) of length one.

    Returns:
        For each scan that is shown by a margin better than its recall the fewest atoms that do, and their decibels.
    """
    products, gram = scans @ atoms.T, atoms @ atoms.T
    energy, residual = (scans**2).sum(1), products.copy()
    chosen = np.zeros((len(scans), 0), np.int64)
    found = Found()
    for count in range(1, min(MOST_ROWS, len(atoms)) + 1):
        residual[np.arange(len(scans))[:, None], chosen] = 0
        chosen = np.concatenate([chosen, np.abs(residual).argmax(1)[:, None]], axis=1)
        inside = np.take_along_axis(products, chosen, 1)
        among = gram[chosen[:, :, None], chosen[:, None, :]] + 1e-9 * np.eye(count)
        weights = np.linalg.solve(among, inside[..., None])[..., 0]
        reached = _decibels((energy - (weights * inside).sum(1)).clip(0) / scans.shape[1])
        for scan in np.flatnonzero(reached > of_recall + MARGIN_DB + MARGIN_A_ROW_DB * count).tolist():
            found.setdefault(scan, (tuple(chosen[scan].tolist()), float(reached[scan])))
        residual = products - np.einsum("nk,nkm->nm", weights, gram[chosen])
    return found


def _centred(rows: Values, channels: int) -> Values:
    """Rows (n, d) without each channel's mean: a constant may be added to what rows show."""
    parts = rows.reshape(len(rows), channels, -1)
    centred: Values = (parts - parts.mean(2, keepdims=True)).reshape(rows.shape)
    return centred


def _decibels(errors: Values) -> Values:
    decibels: Values = -10 * np.log10(np.maximum(errors, 1e-10))
    return decibels
