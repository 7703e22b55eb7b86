"""What it costs to look through a large folder of scans, beside a bare Pillow loop over the same files.

    python benchmarks/looking.py [--files 100000]

Makes so many pictures, looks through them (all are decoded, digested, compared and split, their pixels kept in the
cache), looks again, and reads them as training scans do, each in a process of its own for its peak of memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from braincl_med.scans.index import READERS, Index
from braincl_med.scans.listing import list_scans
from braincl_med.settings.config import StreamConfig
from braincl_med.streams.own import OwnScans
from braincl_med.streams.place import Place

SIDE, SIZE = 64, 28


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        name, folder = arguments.work
        began = time.perf_counter()
        WORK[name](Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cpu = sum(os.times()[:2])
        print(json.dumps([time.perf_counter() - began, cpu, peak]))
        return
    with tempfile.TemporaryDirectory() as scratch:
        make(Path(scratch) / "own", arguments.files)
        print(f"{arguments.files:,} PNG of {SIDE} px, {READERS} threads")
        times = {}
        for name in WORK:
            done = subprocess.run(
                [sys.executable, __file__, "--work", name, scratch], check=True, capture_output=True, text=True
            )
            times[name], cpu, peak = json.loads(done.stdout.splitlines()[-1])
            rate = arguments.files / times[name]
            print(f"{name:14} {times[name]:7.1f} s  {rate:8,.0f} files/s  {cpu:7.1f} s of CPU  peak {peak:,.0f} MiB")
        print(f"first look against the bare loop: {times['bare loop'] / times['first look']:.2f}")


def make(folder: Path, count: int) -> None:
    """Pictures of two classes that all differ, each of 20,000 a folder."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 8, 8, 3), np.uint8)
    for number in range(count):
        place = folder / ("naevus", "melanoma")[number % 2] / str(number // 20_000)
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(coarse[number]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        picture.save(place / f"{number:06}.png", compress_level=1)


def bare(folder: Path) -> None:
    """Open, turn, convert, resize; nothing is checked or kept."""
    for path in sorted((folder / "own").rglob("*.png")):
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
        np.asarray(upright.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def look(folder: Path) -> None:
    """Once through the folder, with the cache."""
    OwnScans().held("own", "train", StreamConfig(cache=True), _place(folder))


def look_without_cache(folder: Path) -> None:
    """Through the folder, with notes in memory."""
    with Index(None) as index:
        index.look_through("own", list_scans(folder / "own"), 0)


def read(folder: Path) -> None:
    """All training scans, from the cache."""
    held = OwnScans().held("own", "train", StreamConfig(cache=True), _place(folder))
    held.images(np.arange(len(held.labels)))


def _place(folder: Path) -> Place:
    return Place(folder, notes=folder / "notes")


WORK = {
    "bare loop": bare,
    "first look": look,
    "without cache": look_without_cache,
    "second look": look,
    "reading": read,
}

if __name__ == "__main__":
    main()
