"""An erased record rebuilt from those that stay: two attacks on a task of which one record was erased.

The cues of all records that a memory was fitted to add up to about zero, channel by channel, and different channels
are uncorrelated. So what the others lack is the erased one's cue:

    direct   q = −Σ qᵢ
    sign     q qᵀ = −Σ qᵢ qᵢᵀ off the diagonal, which gives q but for its sign

and the task's completion network decodes it.
"""

import numpy as np
import numpy.typing as npt

from braincl_med.foundation.arrays import Images
from braincl_med.memory.coding import Cues
from braincl_med.memory.module import complete
from braincl_med.vault.cuefile import CueFile

ITERATIONS = 200
"""Until the diagonal that a sum of products lacks has settled."""


def direct(cues: Cues) -> Cues:
    """(1, M, rows, columns): minus the sum of cues (n, M, rows, columns)."""
    return _as_cues(-cues.astype(np.float64).sum(0, keepdims=True))


def sign(cues: Cues) -> Cues:
    """(2, M, rows, columns): the cue that makes channels uncorrelated, with either sign."""
    flat = cues.astype(np.float64).reshape(len(cues), -1)
    lacking = -flat.T @ flat
    np.fill_diagonal(lacking, 0)
    found = np.zeros(len(lacking))
    for _ in range(ITERATIONS):
        values, vectors = np.linalg.eigh(lacking + np.diag(found**2))
        found = vectors[:, -1] * np.sqrt(max(values[-1], 0.0))
    return _as_cues(np.stack([found, -found]).reshape(2, *cues.shape[1:]))


def _as_cues(values: npt.NDArray[np.float64]) -> Cues:
    cues: Cues = values.round().clip(-(2**15), 2**15 - 1).astype(np.int16)
    return cues


ATTACKS = {"direct": direct, "sign": sign}


def rebuilt(file: CueFile, attack: str) -> Images:
    """What an attack makes of the records that a file holds: (tries, height, width, 3).

    Args:
        file: plain, of one task.
        attack: a key of `ATTACKS`.

    Raises:
        VaultError: the file does not decode.
    """
    cues = np.concatenate([file.cues(shard.label) for shard in file.header.shards])
    return complete(file.network(), ATTACKS[attack](cues))


def is_found(tries: Images, erased: Images, others: Images) -> bool:
    """Whether the erased scan is nearer to one of the tries than any other is, by mean squared error.

    Args:
        tries: (n, h, w, 3), see `rebuilt`.
        erased: (h, w, 3).
        others: (m, h, w, 3) scans that were never encoded: those that were are no fair choice, for their recalls are
            what the tries are made of.
    """

    def distances(one: Images, to: Images) -> npt.NDArray[np.float64]:
        return np.array([np.mean((one.astype(np.float64) - scan) ** 2) for scan in to])

    return any(bool(distances(one, erased[None])[0] < distances(one, others).min()) for one in tries)
