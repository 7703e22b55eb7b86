"""A cue file without some of its records: the rest is coded again, under tables refitted to the rest."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from braincl_med.foundation.arrays import Positions
from braincl_med.foundation.errors import VaultError
from braincl_med.memory.coding import FrequencyTables
from braincl_med.vault.cuefile import CODER, CueFile, Shard
from braincl_med.vault.pruning import pruned

MOST_NAMED = 20


def ordinals_of(shard: Shard) -> Sequence[int]:
    """Each record's place within its class when the task was encoded, ascending."""
    return shard.ordinals or range(shard.records)


def subset(file: CueFile, kept: Mapping[int, Positions]) -> CueFile | None:
    """The file with the kept records alone, or None when none is kept.

    The network stays as it is, but for components that no kept record uses.

    Args:
        file: is left as it is.
        kept: for each class the positions of the records to keep within its shard, in any order.

    Raises:
        VaultError: a shard has no such position, or its words cannot be decoded.
    """
    cues, shards = {}, []
    for shard in file.header.shards:
        positions = np.sort(kept[shard.label])
        if not len(positions):
            continue
        if positions[0] < 0 or positions[-1] >= shard.records:
            raise VaultError(
                f"records {positions[0]} to {positions[-1]} of class {shard.label} were chosen, the vault holds "
                f"{shard.records}: some were erased meanwhile, resume the run"
            )
        cues[shard.label] = file.cues(shard.label)[positions]
        ordinals = np.array(ordinals_of(shard))[positions].tolist()
        everything = len(positions) == shard.records
        changes = {"records": len(positions), "ordinals": shard.ordinals if everything else tuple(ordinals)}
        shards.append(shard.model_copy(update=changes))
    if not cues:
        return None
    header = file.header.model_copy(update={"shards": tuple(shards), "coder": CODER})
    tables = FrequencyTables.of(np.concatenate(list(cues.values())))
    packed = CueFile.pack(header, cues, tables, file.completion)
    # All else stays as it is, such as the network in whatever way the file's version stores it.
    return pruned(replace(file, header=packed.header, tables=packed.tables, payload=packed.payload))


def positions_without(
    file: CueFile, dataset_label: str, ordinals: Collection[int] | None = None
) -> dict[int, Positions]:
    """For each class the positions of the records that remain when some of one class are erased.

    Args:
        file: which must hold all of them.
        dataset_label: the class.
        ordinals: of the records to erase; all of the class when None.

    Raises:
        VaultError: the file does not hold the class or one of the records; says what it holds.
    """
    task, shards = file.header.task, file.header.shards
    if dataset_label not in [shard.dataset_label for shard in shards]:
        held = ", ".join(shard.dataset_label for shard in shards)
        raise VaultError(f"task {task} holds no class '{dataset_label}': it holds {held}")
    remaining = {}
    for shard in shards:
        held_ordinals = np.array(ordinals_of(shard), np.int64)
        erased = np.zeros(shard.records, bool)
        if shard.dataset_label == dataset_label:
            erased[:] = True if ordinals is None else np.isin(held_ordinals, list(ordinals))
            missing = sorted(set(ordinals or ()) - set(held_ordinals.tolist()))
            if missing:
                raise VaultError(
                    f"task {task} holds no record {_some(missing)} of class '{dataset_label}': "
                    f"it holds {_some(held_ordinals.tolist())}"
                )
        remaining[shard.label] = np.flatnonzero(~erased)
    return remaining


def _some(numbers: Sequence[int]) -> str:
    more = len(numbers) - MOST_NAMED
    return ", ".join(map(str, numbers[:MOST_NAMED])) + (f" and {more:,} more" if more > 0 else "")
