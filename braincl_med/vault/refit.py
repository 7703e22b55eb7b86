"""A task's memory fitted anew to what remains of it, so that its network no longer tells of what was erased.

A task's mean and principal components are functions of all scans that were encoded. Of a small task what remains
gives away what is missing: its cues must add up to about zero, and those of different components must be uncorrelated
(docs/vault.md). So both are fitted again, to the recalls of the records that remain, and these are encoded once more:

    cues q ──G──► recalls r ──fit──► G' ──► cues q' of r

Then q' adds up to about zero by itself, and nothing follows from G'. Recalls of recalls are a little worse.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from braincl_med.foundation.arrays import Images
from braincl_med.memory.coding import FrequencyTables
from braincl_med.memory.module import complete, fit, recall_error
from braincl_med.memory.networks import MemoryShape, PatternCompletion
from braincl_med.settings.memory import LinearMemory
from braincl_med.vault.cuefile import CODER, CueFile, Shard
from braincl_med.vault.pruning import pruned
from braincl_med.vault.subset import ordinals_of

FEWEST_LEFT = 100
"""Records of a task below which those that stay give away the scan of an erased one (docs/vault.md)."""


@dataclass(frozen=True)
class Refit:
    """A cue file fitted anew.

    Attributes:
        file: holds the same records under the same ordinals.
        lost_db: about how much the recalls' likeness to their scans has lost, in dB of the mean squared error. The
            change of the recalls is measured; that it is independent of the error they had is assumed.
    """

    file: CueFile
    lost_db: float


def basis_of_scans(shape: MemoryShape) -> bool:
    """Whether a memory of this shape has a mean and components that are a function of its task's scans alone."""
    return shape.linear and not shape.hidden_channels and not shape.basis


def too_few(file: CueFile) -> bool:
    """Whether what a file holds after an erasure must be fitted anew."""
    return file.records < FEWEST_LEFT and basis_of_scans(file.shape)


def refitted(file: CueFile, seed: int = 0) -> Refit:
    """Fit mean and components to the recalls of a file's records, and encode these.

    The guide has no part in it: it learned from the scans. So the components follow the squared error, and the step
    is the root mean square of the former components' lengths, which gives the cues' rounding the error that it had.

    Args:
        file: of which `basis_of_scans` says yes, with at least one record.
        seed: of the fit, see `memory.module.fit`.

    Raises:
        VaultError: the file does not decode.
    """
    network, shape = file.network(), file.shape
    recalls = {shard.label: complete(network, file.cues(shard.label)) for shard in file.header.shards}
    config = LinearMemory(
        components=shape.cue_channels,
        step=_step(network),
        guidance=0,
        down_samplings=shape.down_samplings,
        refining_channels=shape.refining_channels,
    )
    module = fit(np.concatenate(list(recalls.values())), config, seed)
    cues = {label: module.encode(images) for label, images in recalls.items()}
    changes = {label: recall_error(module.completion, cues[label], recalls[label]) for label in recalls}
    header = file.header.model_copy(
        update={
            "coder": CODER,
            "shape": module.completion.shape.as_json(),
            "shards": tuple(_bounded(shard, changes[shard.label]) for shard in file.header.shards),
        }
    )
    tables = FrequencyTables.of(np.concatenate(list(cues.values())))
    fitted = pruned(CueFile.pack(header, cues, tables, module.stored))
    return Refit(fitted, _lost(file.header.shards, changes, recalls))


@torch.no_grad()
def _step(network: PatternCompletion) -> float:
    """Root mean square of the components' lengths: what one unit of a cue changes, in pixels."""
    assert network.synthesis is not None
    lengths = network.synthesis.weight.flatten(1).norm(dim=1)
    return max(1e-3, float(lengths.square().mean().sqrt()))


def _bounded(shard: Shard, change: float) -> Shard:
    """The shard with a recall error that its recalls surely do not exceed, by the triangle inequality.

    All its ordinals are named, for that says that the error is a bound (`Shard`).
    """
    error = min(1.0, shard.recall_error + change)
    return shard.model_copy(update={"recall_error": error, "ordinals": tuple(ordinals_of(shard))})


def _lost(shards: tuple[Shard, ...], changes: dict[int, float], recalls: dict[int, Images]) -> float:
    """10 log10 (1 + change² / error²), both meaned over the records."""
    records = [len(recalls[shard.label]) for shard in shards]
    error = np.average([shard.recall_error**2 for shard in shards], weights=records)
    change = np.average([changes[shard.label] ** 2 for shard in shards], weights=records)
    return round(10 * math.log10(1 + float(change / max(error, 1e-12))), 2)
