"""What the memory costs in time and room, measured in one run on this machine.

    BRAINCL_DATA=/folder/of/npz/files python benchmarks/speed.py

1. Coder: nanoseconds a symbol and overhead over the tables' entropy, for a shard of more than a million symbols.
2. Recall: reading, decoding and completing a vault's cues, as a share of a sleep of 10 epochs on them; and how much
   longer it takes from a sealed vault, as the median over pairs of recalls one after the other.
3. Room: how much the process grows while 100,000 scans are encoded, beyond the cues themselves.
"""

import argparse
import os
import resource
import secrets
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from braincl_med.cortex.cortex import Cortex
from braincl_med.memory.coding import FrequencyTables, decode, encode
from braincl_med.memory.module import MemoryModule, fit
from braincl_med.memory.training import Images
from braincl_med.phases.sleep import sleep
from braincl_med.settings.config import DATA_VARIABLE, CortexConfig, SleepConfig
from braincl_med.settings.memory import LinearMemory
from braincl_med.vault.cuefile import CODER, CueFile, Header, Shard
from braincl_med.vault.keys import Key, Keys
from braincl_med.vault.vault import Vault

SCANS = 2000
EPOCHS = 10
MANY = 100_000
PAIRS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with np.load(Path(os.environ[DATA_VARIABLE]) / "bloodmnist.npz") as file:
        images, labels = file["train_images"][:SCANS], file["train_labels"][:SCANS].ravel().astype(np.int64)

    started = time.perf_counter()
    module = fit(images, LinearMemory(), 1, labels)
    print(f"fit: {SCANS} scans, {time.perf_counter() - started:.1f} s")

    cues = module.encode(images)
    many = np.repeat(cues, 1 + 10**6 // cues.size, axis=0)
    tables = FrequencyTables.of(many)
    started = time.perf_counter()
    words = encode(many, tables)
    encoding = (time.perf_counter() - started) / many.size * 1e9
    started = time.perf_counter()
    assert np.array_equal(decode(words, tables, len(many), many.shape[1:]), many)
    decoding = (time.perf_counter() - started) / many.size * 1e9
    overhead = 32 * len(words) / tables.entropy(many) - 1
    print(
        f"coder: {many.size:,} symbols, {encoding:.1f} ns to encode, {decoding:.1f} ns to decode one, +{overhead:.3%}"
    )

    order = np.argsort(labels, kind="stable")
    cues, labels = cues[order], labels[order]
    shards = tuple(
        Shard(label=int(c), dataset_label=f"blood/{c}", records=int((labels == c).sum()), words=0, recall_error=0)
        for c in np.unique(labels)
    )
    header = Header(
        experiment="speed",
        task=0,
        task_name="speed",
        memory="working",
        key="",
        coder=CODER,
        shape=module.completion.shape.as_json(),
        shards=shards,
    )
    by_class = {shard.label: cues[labels == shard.label] for shard in shards}
    with tempfile.TemporaryDirectory() as folder:
        vault = Vault(Path(folder) / "speed")
        vault.remember(CueFile.pack(header, by_class, FrequencyTables.of(cues), module.stored))
        started = time.perf_counter()
        recalled = vault.recall(0)
        recalling = time.perf_counter() - started
        ratio = _sealed_ratio(vault)
    torch.manual_seed(0)
    cortex = Cortex(len(shards), CortexConfig(stem="3x3-stride2", precision="auto"))
    started = time.perf_counter()
    sleep(cortex, recalled, SleepConfig(rounds=1, epochs=EPOCHS), 0, 1, 0.0)
    sleeping = time.perf_counter() - started
    share = recalling / sleeping
    print(f"recall: {recalling:.2f} s, {EPOCHS} epochs of sleep {sleeping:.1f} s, share {share:.2%}")
    print(f"recall of the same vault sealed under two keys: {ratio:.3f} times as long")

    _print_growth(module, images)


def _sealed_ratio(vault: Vault) -> float:
    """How many times as long a recall takes from the same vault sealed under two keys, the longest way of reading."""
    keys = Keys(Key(secrets.token_bytes(32)), Key(secrets.token_bytes(32)), "speed")
    folder = vault.folder.with_name("sealed") / vault.folder.name
    shutil.copytree(vault.folder, folder)
    Vault(folder).seal(keys)
    sealed, seconds = Vault(folder, keys), []
    sealed.recall(0)  # imports the library
    for number in range(2 * PAIRS):
        # Plain first in one pair, sealed first in the next.
        first = (vault, sealed) if number % 2 else (sealed, vault)
        taken = {}
        for held in first:
            started = time.perf_counter()
            held.recall(0)
            taken[held is sealed] = time.perf_counter() - started
        seconds.append(taken[True] / taken[False])
    return float(np.median(seconds))


def _print_growth(module: MemoryModule, images: Images) -> None:
    """Print how much the process grows while many scans are encoded."""
    scans = np.resize(images, (MANY, *images.shape[1:]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    encoded = module.encode(scans)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"room: {MANY:,} scans ({scans.nbytes / 2**20:.0f} MiB) encoded in {time.perf_counter() - started:.1f} s, "
        f"peak grew by {grown:.0f} MiB, the cues themselves take {encoded.nbytes / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    main()
