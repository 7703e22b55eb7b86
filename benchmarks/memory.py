"""What a byte of memory is worth: the accuracy on raw test scans of a network trained on recalls, against bytes.

    export BRAINCL_DATA=/folder/of/npz/files BRAINCL_PHOTOGRAPHS=/folder/with/a/manifest.csv
    python benchmarks/memory.py --quick
    python benchmarks/memory.py blood-400 --out docs/results
    python benchmarks/memory.py photographs-64 photographs-128
    python benchmarks/memory.py blood-1000-long photographs-128-long    # on a GPU

Each cell (data set, memory, setting, seed) is fitted, recalled and trained on by itself; the same ResNet-18, epochs,
schedule and augmentation for all. Resumable: a cell that stands below the state folder is not run again. Prints the
table of docs/results/memory.md, and with --out writes the picture.
"""

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from skimage.metrics import structural_similarity
from torch.nn import functional

from benchmarks.memories import MEMORIES, Images
from braincl_med.cortex.cortex import Cortex, predict, scans_to_tensor
from braincl_med.foundation.devices import accelerator, processes_at_a_time
from braincl_med.foundation.files import write_whole
from braincl_med.foundation.seeding import seed_everything
from braincl_med.scans.manifest import rows_of
from braincl_med.scans.reading import read_scan
from braincl_med.settings.config import DATA_VARIABLE, CortexConfig
from braincl_med.streams.tasks import Scans

BATCH, RATE = 64, 0.05
UNSEEN = 300
SSIM_SAMPLE = 200


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    dataset: str
    memory: str
    setting: float
    seed: int

    @property
    def file(self) -> str:
        """Where its result stands below the state folder."""
        words = (self.dataset, self.memory, f"{self.setting:g}", str(self.seed))
        return "_".join(words).replace(" ", "-").replace(",", "").replace("'", "") + ".json"


@dataclass(frozen=True)
class Dataset:
    """Which scans, how many of a class, and how long the network trains on them; of photographs pixels a side."""

    files: tuple[str, ...]
    per_class: int
    epochs: int
    stem: str = "3x3-stride2"
    size: int = 28


PHOTOGRAPHS = "BRAINCL_PHOTOGRAPHS"
BLOOD, MANIFEST = ("bloodmnist.npz",), ("manifest.csv",)
MEDMNIST12 = ("bloodmnist.npz", "breastmnist.npz", "pneumoniamnist.npz")
DATASETS = {
    "quick": Dataset(BLOOD, 400, 7),
    "blood-400": Dataset(BLOOD, 400, 12),
    "blood-1000": Dataset(BLOOD, 1000, 12),
    "medmnist12-200": Dataset(MEDMNIST12, 200, 12),
    "photographs-64": Dataset(MANIFEST, 200, 12, "imagenet", 64),
    "photographs-128": Dataset(MANIFEST, 200, 12, "imagenet", 128),
    "blood-1000-long": Dataset(BLOOD, 1000, 60, "3x3"),
    "photographs-128-long": Dataset(MANIFEST, 300, 60, "imagenet", 128),
}


def _cells(dataset: str, seeds: tuple[int, ...], settings: dict[str, tuple[float, ...]]) -> list[Cell]:
    return [Cell(dataset, m, value, seed) for seed in seeds for m, values in settings.items() for value in values]


KEY = {"raw": (0,), "ours": (0.4, 0.28, 0.14), "DCT": (0.5, 0.35, 0.22)}
"""Measured with three seeds."""
LARGER = {"raw": (0,), "ours": (0.45,), "WebP, stripped": (5,), "JPEG XL": (5,)}
PLAN = {
    "quick": _cells("quick", (1,), {"raw": (0,), "ours": (0.4,), "DCT": (0.5,), "WebP, stripped": (1,)}),
    "blood-400": [
        *_cells("blood-400", (1, 2, 3), KEY),
        *_cells("blood-400", (1, 2), {"ours, unguided": (0.4,)}),
        *_cells("blood-400", (1,), {"ours, unguided": (0.28,), "ours": (0.6,), "DCT": (0.7, 0.15)}),
        *_cells("blood-400", (1,), {"WebP, stripped": (1, 10, 30), "JPEG, stripped": (15,), "JPEG XL": (1,)}),
        *_cells("blood-400", (1,), {"PCA": (0.3,), "CompressAI": (0.005,), "ours, paper's recipe": (1e-3,)}),
    ],
    "blood-1000": _cells("blood-1000", (1,), {"raw": (0,), "ours": (0.4,), "DCT": (0.5,)}),
    "photographs-64": _cells("photographs-64", (1, 2), LARGER),
    "photographs-128": _cells("photographs-128", (1, 2), LARGER),
    "medmnist12-200": _cells(
        "medmnist12-200", (1,), {"raw": (0,), "ours": (0.4,), "DCT": (0.5,), "WebP, stripped": (1,)}
    ),
    "blood-1000-long": _cells(
        "blood-1000-long",
        (1, 2, 3),
        {**KEY, "WebP, stripped": (1, 30), "PCA": (0.3,), "ours, paper's networks": (1e-2, 1e-3)},
    ),
    "photographs-128-long": _cells("photographs-128-long", (1, 2, 3), LARGER),
}
NOT_BY_DEFAULT = ("quick", "blood-1000-long", "photographs-128-long")


def load(dataset: Dataset, part: str, limit: int | None = None) -> list[tuple[Images, npt.NDArray[np.int64]]]:
    """Scans and class numbers of each file; at most `limit` a class, the same ones every time."""
    if dataset.files == MANIFEST:
        return [_photographs(dataset.size, part, limit)]
    folder = Path(os.environ[DATA_VARIABLE])
    sets, classes = [], 0
    for name in dataset.files:
        with np.load(folder / name) as file:
            images, labels = file[f"{part}_images"], file[f"{part}_labels"].ravel().astype(np.int64)
        if images.ndim == 3:
            images = np.repeat(images[..., None], 3, axis=3)
        rng = np.random.default_rng(0)
        chosen = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:limit] for c in np.unique(labels)])
        sets.append((images[chosen], labels[chosen] + classes))
        classes += int(labels.max()) + 1
    return sets


def _photographs(size: int, part: str, limit: int | None) -> tuple[Images, npt.NDArray[np.int64]]:
    """Pictures of a manifest's split and their classes, in the order of names; the first `limit` of each class."""
    folder = Path(os.environ[PHOTOGRAPHS])
    rows = [row for row in rows_of(folder / MANIFEST[0]) if row.split == part]
    names = sorted({row.label for row in rows})
    chosen = [row for name in names for row in [row for row in rows if row.label == name][:limit]]
    labels = np.array([names.index(row.label) for row in chosen], np.int64)
    return np.stack([read_scan(folder / row.path, size) for row in chosen]), labels


def measure(cell: Cell) -> dict[str, float]:
    """Fit the memory, train the network on its recalls, test it on raw scans."""
    dataset = DATASETS[cell.dataset]
    train, test = load(dataset, "train", dataset.per_class), load(dataset, "test")
    started = time.perf_counter()
    memories = [MEMORIES[cell.memory](images, labels, cell.setting) for images, labels in train]
    fitted = time.perf_counter() - started
    scans = Scans(np.concatenate([m.recalls for m in memories]), np.concatenate([labels for _, labels in train]))
    originals = np.concatenate([images for images, _ in train])
    others = [images[:: max(1, len(images) // UNSEEN)] for images, _ in test]
    unseen = np.concatenate([m.unseen(images) for m, images in zip(memories, others, strict=True)])
    places = np.linspace(0, len(originals) - 1, SSIM_SAMPLE).astype(int)
    similarities = [structural_similarity(originals[i], scans.images[i], channel_axis=2) for i in places]

    cortex = _train(scans, dataset, cell.seed)
    predicted = predict(cortex, np.concatenate([images for images, _ in test])).argmax(1)
    truth = np.concatenate([labels for _, labels in test])
    payload, rest = sum(m.payload for m in memories), sum(m.rest for m in memories)
    return {
        "payload": payload / len(originals),
        "total": (payload + rest) / len(originals),
        "psnr": _psnr(originals, scans.images),
        "psnr_unseen": _psnr(np.concatenate(others), unseen),
        "ssim": float(np.mean(similarities)),
        "accuracy": float(np.mean([(predicted[truth == c] == c).mean() for c in np.unique(truth)])),
        "fit_seconds": fitted,
        "seconds": time.perf_counter() - started,
    }


def _train(scans: Scans, dataset: Dataset, seed: int) -> Cortex:
    """ResNet-18 after SGD with a one-cycle schedule and flips both ways."""
    seed_everything(seed)
    cortex = Cortex(int(scans.labels.max()) + 1, CortexConfig(stem=dataset.stem, precision="auto")).train()
    cortex.to(accelerator())
    labels = torch.from_numpy(scans.labels).to(cortex.device)
    batches = len(labels) // BATCH
    optimiser = torch.optim.SGD(cortex.parameters(), RATE, 0.9, weight_decay=5e-4, nesterov=True, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=dataset.epochs * batches)
    for _ in range(dataset.epochs):
        for chosen in torch.randperm(len(labels))[: batches * BATCH].split(BATCH):
            images = scans_to_tensor(scans.images[chosen.numpy()])
            for axis in (2, 3):
                images = torch.where(torch.rand(BATCH, 1, 1, 1) < 0.5, images.flip(axis), images)
            loss = functional.cross_entropy(cortex(images.to(cortex.device)), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return cortex


def _psnr(first: Images, second: Images) -> float:
    error = float(np.mean((first.astype(np.float32) - second) ** 2)) / 255**2
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def read(cell: Cell, path: Path) -> dict[str, float]:
    """A finished cell's figures; ends the program if it was trained on other scans or for longer than now."""
    content = json.loads(path.read_text())
    former, now = content.get("training"), json.loads(json.dumps(asdict(DATASETS[cell.dataset])))
    if former != now:
        raise SystemExit(f"{path.name} was trained with {former}, now it is {now}: give another folder with --state")
    result: dict[str, float] = content["result"]
    return result


def table(cells: list[Cell], results: dict[Cell, dict[str, float]]) -> str:
    """Markdown: one row a memory and setting, mean and spread over seeds."""
    lines = [
        "| data | memory | setting | payload B | all in B | PSNR dB | unseen | SSIM | accuracy % | of raw | seeds |",
        "|" + "---|" * 11,
    ]
    groups: dict[tuple[str, str, float], list[dict[str, float]]] = {}
    for cell in cells:
        if cell in results:
            groups.setdefault((cell.dataset, cell.memory, cell.setting), []).append(results[cell])
    raw = {key[0]: np.mean([r["accuracy"] for r in rows]) for key, rows in groups.items() if key[1] == "raw"}
    for (dataset, memory, setting), rows in sorted(
        groups.items(), key=lambda item: (item[0][0], item[0][1] != "raw", item[0][1], item[1][0]["total"])
    ):
        means = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
        accuracies = [100 * row["accuracy"] for row in rows]
        spread = f" ± {np.std(accuracies, ddof=1):.1f}" if len(rows) > 1 else ""
        share = f"{100 * means['accuracy'] / raw[dataset]:.1f} %" if dataset in raw else ""
        lines.append(
            f"| {dataset} | {memory} | {setting:g} | {means['payload']:.1f} | {means['total']:.1f} "
            f"| {means['psnr']:.1f} | {means['psnr_unseen']:.1f} | {means['ssim']:.3f} "
            f"| {np.mean(accuracies):.1f}{spread} | {share} | {len(rows)} |"
        )
    return "\n".join(lines)


def picture(dataset: str, results: dict[Cell, dict[str, float]], path: Path) -> None:
    """Accuracy against all bytes of a scan, a line a memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    points: dict[str, dict[float, list[dict[str, float]]]] = {}
    for cell, row in results.items():
        if cell.dataset == dataset:
            points.setdefault(cell.memory, {}).setdefault(cell.setting, []).append(row)
    for memory, settings in sorted(points.items()):
        line = sorted(
            (np.mean([r["total"] for r in rows]), 100 * np.mean([r["accuracy"] for r in rows]))
            for rows in settings.values()
        )
        if memory == "raw":
            axes.axhline(line[0][1], color="grey", linestyle="--", label="raw")
            axes.axhline(0.97 * line[0][1], color="grey", linestyle=":", label="97 % of raw")
        else:
            axes.plot(*zip(*line, strict=True), marker="o", label=memory)
    axes.set(xlabel="bytes a scan, everything counted", ylabel="accuracy on raw test scans (%)", title=dataset)
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(path / f"memory-{dataset}.png", dpi=110)


def _one_thread() -> None:
    torch.set_num_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", help=f"of {', '.join(PLAN)}")
    parser.add_argument("--quick", action="store_true", help="the four most telling cells alone, with fewer epochs")
    parser.add_argument("--state", type=Path, default=Path(".braincl/memory"), help="folder of the finished cells")
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    parser.add_argument("--memories", nargs="+", choices=MEMORIES, help="these alone")
    parser.add_argument("--report", action="store_true", help="run nothing, print what is there")
    parser.add_argument("--workers", type=int, default=processes_at_a_time())
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.datasets} - {*PLAN}):
        parser.error(f"there is no data set '{unknown[0]}', expected one of {', '.join(PLAN)}")
    others = [name for name in PLAN if name not in NOT_BY_DEFAULT]
    names = ["quick"] if arguments.quick else arguments.datasets or others
    chosen = arguments.memories or list(MEMORIES)
    cells = list(dict.fromkeys(cell for name in names for cell in PLAN[name] if cell.memory in chosen))
    paths = {cell: arguments.state / cell.file for cell in cells}
    results = {cell: read(cell, path) for cell, path in paths.items() if path.exists()}
    missing = [cell for cell in cells if not arguments.report and cell not in results]
    if missing and DATA_VARIABLE not in os.environ:
        parser.error(f"set {DATA_VARIABLE} to the folder of MedMNIST's npz files")
    with ProcessPoolExecutor(arguments.workers, get_context("spawn"), initializer=_one_thread) as pool:
        running = {pool.submit(measure, cell): cell for cell in missing}
        for number, done in enumerate(as_completed(running), 1):
            cell, row = running[done], done.result()
            content = {"cell": asdict(cell), "training": asdict(DATASETS[cell.dataset]), "result": row}
            write_whole(paths[cell], json.dumps(content, indent=1).encode())
            figures = f"{row['total']:.1f} B, {row['psnr']:.1f} dB, accuracy {row['accuracy']:.3f}"
            print(f"{number}/{len(missing)} {cell.file}: {figures}, {row['seconds']:.0f} s", flush=True)
            results[cell] = row
    print(table(cells, results))
    if arguments.out is not None:
        for name in names:
            picture(name, results, arguments.out)


if __name__ == "__main__":
    main()
