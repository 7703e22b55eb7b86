"""A cue file without the components that none of its records uses: they serve no recall, and could hold anything.

Networks with convolutions, as the paper has them, have no components and stay as they are; so do those of a fixed
basis, whose components nobody chose.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from braincl_med.memory.coding import Cues, FrequencyTables
from braincl_med.memory.networks import FIXED_BASIS, MemoryShape, PatternCompletion
from braincl_med.memory.symmetry import TRANSPOSED
from braincl_med.memory.weights import CodedTensor, pack, unpack
from braincl_med.vault.cuefile import CueFile

ROWS = "synthesis.weight"
"""The tensor of a completion network with one row a component."""


def has_components(file: CueFile) -> bool:
    """Whether the cues of a file are coordinates of components, which it holds and can be taken out one by one."""
    return (
        file.version > 1 and file.shape.linear and not file.shape.hidden_channels and file.shape.basis != FIXED_BASIS
    )


def used_channels(shape: MemoryShape, cues: Mapping[int, Cues]) -> npt.NDArray[np.bool_]:
    """Which channels of a cue some record uses; one of a transposed pair is, if the other is."""
    used: npt.NDArray[np.bool_] = np.logical_or.reduce([(q != 0).any((0, 2, 3)) for q in cues.values()])
    if shape.symmetry > TRANSPOSED and shape.kinds[TRANSPOSED]:
        pairs = shape.kinds[TRANSPOSED]
        either = used[-2 * pairs : -pairs] | used[-pairs:]
        used = np.concatenate([used[: -2 * pairs], either, either])
    # Something must be left for the coder, if only the first.
    if not used.any():
        used[0] = True
        if shape.symmetry > TRANSPOSED and shape.kinds[TRANSPOSED] == shape.cue_channels // 2:
            used[shape.cue_channels // 2] = True
    return used


def pruned(file: CueFile) -> CueFile:
    """The file without unused components, itself if it has none; its recalls stay as they are.

    Raises:
        VaultError: it does not decode.
    """
    if not has_components(file):
        return file
    cues = {shard.label: file.cues(shard.label) for shard in file.header.shards}
    used = used_channels(file.shape, cues)
    if used.all():
        return file
    former, coded = unpack(file.completion, file.shape)
    ends = np.cumsum(file.shape.kinds or (len(used),))
    kinds = tuple(int(part.sum()) for part in np.split(used, ends[:-1])) if file.shape.kinds else ()
    shape = replace(file.shape, cue_channels=int(used.sum()), kinds=kinds)
    network, state = PatternCompletion(shape), former.state_dict()
    coded[ROWS] = CodedTensor(coded[ROWS].steps[used], coded[ROWS].integers[used])
    state[ROWS] = state[ROWS][used]
    network.load_state_dict(state)
    kept = {label: q[:, used] for label, q in cues.items()}
    header = file.header.model_copy(update={"shape": shape.as_json()})
    tables = FrequencyTables.of(np.concatenate(list(kept.values())))
    return CueFile.pack(header, kept, tables, pack(network, coded), file.version)
