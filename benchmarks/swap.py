"""Another network from memory alone: medmnist12 learned by ResNet-18 from scratch, then taken over by Lite0.

    python benchmarks/imagenet_start.py efficientnet-lite0.safetensors
    BRAINCL_DATA=… python benchmarks/swap.py FOLDER [--seeds 1 2 3]

Up to 100 scans a class, 12 epochs, one hospital, test scans; rates as in configs/bench/start.yaml. In the folder
there is none of these seeds yet.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from braincl_med.federation.local import run_locally
from braincl_med.records.store import RunStore
from braincl_med.settings.loading import load_experiment

SETTINGS = {"stream-train-per-class": 100, "selection-per-class": 100, "sleep-epochs": 12}
FROM = {"sleep-learning-rate": 0.01}
TO = {
    "cortex-network": "tf_efficientnet_lite0",
    "cortex-stem": "3x3",
    "cortex-input": 112,
    "cortex-weights": "efficientnet-lite0.safetensors",
    "sleep-learning-rate": 0.03,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    asked = parser.parse_args()
    print("| seed | network | last accuracy, % | worst class, % | seconds |\n|---|---|---|---|---|")
    for seed in asked.seeds:
        for name, network in (("ResNet-18", FROM), ("Lite0, ImageNet", TO)):
            keys: dict[str, Any] = {"name": f"swap-{seed}", "seed": seed, "state-root": str(asked.folder.resolve())}
            begun = time.perf_counter()
            run_locally(load_experiment("centralised", {**SETTINGS, **network, **keys}))
            counts = RunStore(asked.folder).tally(f"swap-{seed}").confusion
            recalls = np.diag(counts) / counts.sum(1)
            print(
                f"| {seed} | {name} | {100 * np.diag(counts).sum() / counts.sum():.1f} | {100 * recalls.min():.1f} | "
                f"{time.perf_counter() - begun:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
