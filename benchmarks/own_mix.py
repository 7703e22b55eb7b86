"""What simulated hospitals would see if their patients were like the scans that each trained on.

    export BRAINCL_DATA=/folder/of/npz/files
    python benchmarks/own_mix.py STATE EXPERIMENT...

Test scans are dealt evenly; here the accuracies of classes after the latest task are weighted by every hospital's own
training scans, which are dealt anew as the experiment dealt them. Trains nothing. Prints a table in Markdown.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from braincl_med.evaluation.own_mix import own_mix
from braincl_med.evaluation.tally import Counts
from braincl_med.records.store import RunStore
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import load_experiment
from braincl_med.streams.place import Place
from braincl_med.streams.source import ScanSource
from braincl_med.streams.tasks import Registry


def trained(config: ExperimentConfig, registry: Registry, tasks: int) -> Counts:
    """(H, C) training scans of each hospital and class in the first `tasks` tasks."""
    hospitals = config.federation.hospitals
    counts = np.zeros((hospitals, len(registry.classes)), np.int64)
    for number in range(hospitals):
        source = ScanSource(config.stream, Place.simulated(config, number), config.seed, number, hospitals)
        for task in range(tasks):
            labels = source.scans(registry, task, "train").labels
            counts[number] += np.bincount(labels, minlength=counts.shape[1])
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state", type=Path)
    parser.add_argument("experiments", nargs="+")
    asked = parser.parse_args()
    store = RunStore(asked.state)
    print("| experiment | even test scans | own mix: mean of hospitals | least | most |\n|---|---|---|---|---|")
    for name in asked.experiments:
        experiment, tally = store.experiment(name), store.tally(name)
        config = load_experiment(json.dumps(experiment.config))
        mixes = 100 * own_mix(tally.confusion, trained(config, experiment.registry, tally.tasks))
        even = 100 * np.trace(tally.confusion) / tally.confusion.sum()
        figures = (even, np.nanmean(mixes), np.nanmin(mixes), np.nanmax(mixes))
        print(f"| {name} | {' | '.join(f'{figure:.1f}' for figure in figures)} |", flush=True)


if __name__ == "__main__":
    main()
