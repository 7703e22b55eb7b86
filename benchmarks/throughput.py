"""Images a second of a sleep phase beside a bare PyTorch loop over in-memory tensors with the same network.

    python benchmarks/throughput.py

The bare loop has float tensors ready and no augmentation; sleep starts from uint8 scans, crops and flips.
Both take turns, so that a busy machine slows both. Then the network's precisions and memory layouts.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from braincl_med.cortex.cortex import Cortex, scans_to_tensor
from braincl_med.foundation.devices import accelerator
from braincl_med.phases.sleep import sleep
from braincl_med.settings.config import CortexConfig, SleepConfig
from braincl_med.streams.tasks import Scans

CLASSES, SCANS, BATCH, TURNS = 12, 640, 32, 5
STEM = "3x3-stride2"
DEVICE = accelerator()


def bare(cortex: Cortex, images: torch.Tensor, labels: torch.Tensor) -> None:
    """One epoch as in a tutorial."""
    optimiser = torch.optim.SGD(cortex.parameters(), 0.01, momentum=0.9, weight_decay=2e-4, fused=True)
    for chosen in torch.randperm(len(labels), device=DEVICE).split(BATCH):
        loss = functional.cross_entropy(cortex(images[chosen]), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    rng = np.random.default_rng(0)
    scans = Scans(rng.integers(0, 256, (SCANS, 28, 28, 3), dtype=np.uint8), rng.integers(0, CLASSES, SCANS))
    images, labels = scans_to_tensor(scans.images).to(DEVICE), torch.from_numpy(scans.labels).to(DEVICE)
    config = SleepConfig(rounds=1, epochs=1, batch_size=BATCH, learning_rate=0.01)
    cortex = Cortex(CLASSES, CortexConfig(stem=STEM, precision="auto")).to(DEVICE).train()
    ours, plain = [], []
    for turn in range(TURNS):
        ours.append(seconds(lambda: sleep(cortex, scans, config, 0, turn, 0.0)))  # noqa: B023
        plain.append(seconds(lambda: bare(cortex, images, labels)))
    rates = [SCANS / min(times) for times in (ours, plain)]
    print(f"{DEVICE.type}, {torch.get_num_threads()} threads, {cortex.precision}")
    print(f"sleep {rates[0]:.0f} images a second, bare loop {rates[1]:.0f}: {rates[0] / rates[1]:.3f}")
    for precision in ("float32", "bfloat16"):
        for layout in (torch.contiguous_format, torch.channels_last):
            network = Cortex(CLASSES, CortexConfig(stem=STEM, precision=precision)).to(DEVICE).train()
            network.layout = layout
            network.to(memory_format=layout)
            best = min(seconds(lambda: bare(network, images, labels)) for _ in range(2))  # noqa: B023
            print(f"{precision}, {str(layout).removeprefix('torch.')}: {SCANS / best:.0f} images a second")


if __name__ == "__main__":
    main()
