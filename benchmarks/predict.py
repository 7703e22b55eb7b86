"""Scans a second of `braincl predict` beside a bare PyTorch loop over the same files with the same network.

    python benchmarks/predict.py [FOLDER] [--scans 1000] [--size 224] [--stem imagenet]

Without a folder of pictures, phantom scans are written as PNG files. The bare loop opens, resizes, stacks and
answers, batch by batch; predict does that, refuses what is no scan, scores how familiar each is, ranks classes and
writes a table. Both take turns, so that a busy machine slows both; the fastest turn of each counts.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from braincl_med.cortex.cortex import Cortex, extract_features
from braincl_med.cortex.familiarity import Familiarity
from braincl_med.cortex.gaussians import moments
from braincl_med.evaluation.operating import OperatingPoint
from braincl_med.inference.model import Model
from braincl_med.inference.network import Network
from braincl_med.inference.predict import predict
from braincl_med.inference.reading import files_of
from braincl_med.inference.table import csv_lines
from braincl_med.settings.config import CortexConfig, StreamConfig
from braincl_med.streams import phantom
from braincl_med.streams.named import build_registry

BATCH, TURNS = 64, 5


def drawn(folder: Path, scans: int, size: int) -> None:
    """Write phantom scans as PNG files."""
    each = scans // len(phantom.DATASETS)
    for name in phantom.DATASETS:
        rows = np.arange(each) % len(phantom.labels(name, "test"))
        for number, image in enumerate(phantom.load(name, "test", size, rows)[0]):
            Image.fromarray(image).save(folder / f"{name}-{number:04d}.png")


def model_of(size: int, stem: str) -> Model:
    """An untrained ResNet-18 with a memory of noise: speed does not depend on what it has learned."""
    registry = build_registry(StreamConfig(), 1)
    classes = len(registry.classes)
    config = CortexConfig.model_validate({"stem": stem})
    cortex = Cortex(classes, config).eval()
    noise = np.random.default_rng(0).integers(0, 256, (4 * classes, size, size, 3), np.uint8)
    told = moments(extract_features(cortex, noise), torch.arange(4 * classes) % classes, classes)
    operating = OperatingPoint(
        temperature=1.5, threshold=-30, share=0.05, set_aside=0.05, score="familiarity", source="validation",
        counts=(10,) * classes, hospitals=1,
    )  # fmt: skip
    return Model("speed", "braincl", registry, config, size, "pad", cortex.weights(), Familiarity.of(told), operating)


@torch.inference_mode()
def bare(cortex: Cortex, files: list[Path], size: int) -> list[int]:
    """The loop of a tutorial: one thread reads a batch, then the network answers it."""
    found: list[int] = []
    for start in range(0, len(files), BATCH):
        pictures = [
            np.asarray(Image.open(file).convert("RGB").resize((size, size))) for file in files[start : start + BATCH]
        ]
        scans = torch.from_numpy(np.stack(pictures)).to(cortex.device).permute(0, 3, 1, 2).float() / 255
        found += torch.softmax(cortex(scans), 1).argmax(1).tolist()
    return found


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--scans", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--stem", default="imagenet")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        if arguments.folder is None:
            drawn(folder, arguments.scans, arguments.size)
        files = list(files_of([folder]))
        model = model_of(arguments.size, arguments.stem)
        network = Network.of(model)
        ours, plain = [], []
        for _ in range(TURNS):
            rows = predict(model, files, BATCH, network=network)
            ours.append(seconds(lambda: list(csv_lines(model, rows))))  # noqa: B023
            plain.append(seconds(lambda: bare(network.cortex, files, arguments.size)))
    rates = [len(files) / min(times) for times in (ours, plain)]
    print(f"{network.cortex.device.type}, {torch.get_num_threads()} threads, {len(files)} files, {arguments.size} px")
    print(f"predict {rates[0]:.0f} scans a second, bare loop {rates[1]:.0f}: {rates[0] / rates[1]:.3f}")


if __name__ == "__main__":
    main()
