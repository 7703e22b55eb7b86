"""What became of a network inside, as a picture: where it looks at the same scans, and its features, after each task.

    python benchmarks/inside.py STATE EXPERIMENT --data FOLDER --out PICTURE.png

Reads a simulated experiment on public scans, of which the checkpoints at the ends of tasks are kept. Above: of each
class that the first of these knew one test scan, and over it Grad-CAM (`cortex.attention`) of its class by the
network after each task; below: test scans' features along their two principal components, after each task, by class.
"""

import argparse
from pathlib import Path
from textwrap import fill, shorten

import numpy as np
from matplotlib.figure import Figure

from braincl_med.cortex.attention import Attention
from braincl_med.cortex.cortex import Cortex, apart, extract_features
from braincl_med.cortex.gaussians import MOMENTS
from braincl_med.federation.checkpoint import Checkpoint, folder_of, former_checkpoints, load_checkpoint, load_network
from braincl_med.federation.examine import examined_config
from braincl_med.federation.local import local_hospitals
from braincl_med.inference.explain import overlay
from braincl_med.methods.judge import few
from braincl_med.settings.config import ExperimentConfig
from braincl_med.streams.tasks import Scans, is_own

SCANS_PER_CLASS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state", type=Path)
    parser.add_argument("experiment")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    config = examined_config(arguments.state, arguments.experiment, data_root=str(arguments.data))
    ends = _ends(arguments.state, arguments.experiment)
    registry = ends[-1].registry
    if any(is_own(spec.dataset) for spec in registry.classes):
        raise SystemExit("this experiment learned a hospital's own scans, which belong into no picture")
    hospital = local_hospitals(config)[0]
    scans = few(
        Scans.join([hospital.evaluated(registry, task) for task in range(len(registry.tasks))]), SCANS_PER_CLASS
    )
    drawn(config, arguments.state, ends, scans).savefig(arguments.out, dpi=110)


def _ends(state: Path, experiment: str) -> list[Checkpoint]:
    """The checkpoints at the ends of tasks, oldest first."""
    folder = folder_of(state, experiment)
    present = load_checkpoint(folder)
    ends = [*former_checkpoints(folder), *([present] if present else [])]
    return [one for one in ends if one.task and not one.interrupted and one.weights]


def drawn(config: ExperimentConfig, state: Path, ends: list[Checkpoint], scans: Scans) -> Figure:
    """The picture: a row for each class that the first network knows, a column for each network."""
    known = ends[0].registry.seen(ends[0].task - 1)
    figure = Figure(figsize=(2.2 * (len(ends) + 1), 2.2 * (known + 1)), layout="constrained")
    grid = figure.subplots(known + 1, len(ends) + 1)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
    samples = [scans.images[scans.labels == number][0] for number in range(known)]
    for number, sample in enumerate(samples):
        grid[number, 0].imshow(overlay(sample, np.zeros(sample.shape[:2], np.float32)))
        grid[number, 0].set_ylabel(fill(shorten(ends[0].registry.classes[number].name, 44), 22), fontsize=8)
    for column, end in enumerate(ends, start=1):
        weights, _ = apart(load_network(folder_of(state, config.name), end), MOMENTS)
        cortex = Cortex.of(weights, config.cortex)
        attention = Attention(cortex, config.stream.size)
        grid[0, column].set_title(f"after {end.registry.tasks[end.task - 1].name}", fontsize=8)
        for number, sample in enumerate(samples):
            grid[number, column].imshow(overlay(sample, attention.heat(sample, number)))
        shown = scans.take(scans.labels < end.registry.seen(end.task - 1))
        points = _plane(extract_features(cortex, shown.images).numpy())
        for number in np.unique(shown.labels):
            mine = points[shown.labels == number]
            grid[-1, column].scatter(*mine.T, s=5, color=f"C{number % 10}", marker="o" if number < 10 else "x")
    return figure


def _plane(features: np.ndarray) -> np.ndarray:
    """(n, 2) features (n, d) along their two principal components."""
    centred = features - features.mean(0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T


if __name__ == "__main__":
    main()
