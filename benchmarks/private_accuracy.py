"""Accuracy under differential privacy, and of memories that tell nothing of scans: for docs/results/privacy.md.

    python benchmarks/private_accuracy.py OUT --data DIR [--parts starts statistics basis updates] [--workers 6]
    python benchmarks/private_accuracy.py OUT --tables

Every run writes a file below OUT and is not repeated, so an interrupted command goes on. Settings were chosen on
validation scans or with starts and seeds that no table has; tables are of test scans, counted exactly here, without
the noise that hospitals add to their counts.
"""

import argparse
import itertools
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from braincl_med.cortex.cortex import Cortex, extract_features, predict
from braincl_med.cortex.start import load_start
from braincl_med.dp.accountant import Spent, epsilon
from braincl_med.dp.gaussian import multiplier_for
from braincl_med.dp.statistics import RIDGE, SENSITIVITY, accumulated, released, statistics
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, load_weights
from braincl_med.federation.local import run_locally
from braincl_med.messages.report import Report
from braincl_med.phases.discriminant import discriminant
from braincl_med.phases.dpsgd import Sampling
from braincl_med.phases.known_start import known_start
from braincl_med.records.store import RunStore
from braincl_med.records.summary import summarise
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import load_experiment
from braincl_med.streams.named import build_registry
from braincl_med.streams.place import Place
from braincl_med.streams.source import ScanSource
from braincl_med.streams.tasks import Registry, Scans

SEEDS = (1, 2, 3)
EPSILONS = (1.0, 3.0, 8.0, math.inf)
DELTA = 1e-5
TEST_PER_CLASS = 400
BLOOD = (
    "{name: tasks, tasks: ["
    + ", ".join(f"{{name: blood-{n}, classes: [bloodmnist/{2 * n}, bloodmnist/{2 * n + 1}]}}" for n in range(4))
    + "]}"
)
HALF = "{name: tasks, tasks: [{name: half, classes: [bloodmnist/0, bloodmnist/2, bloodmnist/4, bloodmnist/6]}]}"
OTHER = "{name: medmnist, sets: [breastmnist, pneumoniamnist, retinamnist]}"
MEDMNIST12 = "{name: medmnist12}"
STREAMS = {"blood": BLOOD, "medmnist12": MEDMNIST12}
STARTS: dict[str, tuple[str, str]] = {
    "like": (BLOOD, "val"), "half": (HALF, "val"), "other": (OTHER, "train"), "like12": (MEDMNIST12, "val"),
}  # fmt: skip
"""Public scans by the name of a start: a stream and the split that is read."""
IMAGENET = "{network: tf_efficientnet_lite0, input: 112, features: 64}"
RESNET = "{stem: 3x3-stride2, precision: auto, features: 64}"


def experiment(stream: str, cortex: str, data: Path, **more: Any) -> ExperimentConfig:
    """One experiment over a stream, with keys written in Python's way."""
    text = (
        f"name: x\ncortex: {cortex}\nstream: {stream}\nmemory: {{step: 0.45}}\n"
        "wake: {learning-rate: 0.003}\nsleep: {rounds: 1, epochs: 20, batch-size: 64, learning-rate: 0.05, "
        "schedule: cosine}\n"
    )
    given = {key.replace("_", "-"): value for key, value in more.items()}
    return load_experiment(text, {"data-root": str(data), "stream-test-per-class": TEST_PER_CLASS, **given})


def scans_of(
    config: ExperimentConfig, split: Any, hospital: int = 0, hospitals: int = 1
) -> tuple[Registry, list[Scans]]:
    """A hospital's scans, task by task."""
    registry = build_registry(config.stream, config.seed)
    source = ScanSource(config.stream, Place(config.data_folder), config.seed, hospital, hospitals)
    return registry, [source.scans(registry, task, split) for task in range(len(registry.tasks))]


def start(name: str, kind: str, seed: int, data: Path, out: Path) -> None:
    """Make a known start: `like`, …, with batch or group normalisation, or ImageNet's with the map those teach."""
    public, split = STARTS[name]
    cortex = {"batch": RESNET, "group": RESNET.replace("features: 64", "norm: group"), "imagenet": IMAGENET}[kind]
    config = experiment(public, cortex, data, seed=seed, stream_train_per_class=1000, sleep_epochs=30)
    config = config.model_copy(update={"stream": config.stream.model_copy(update={"test_per_class": 1000})})
    _, parts = scans_of(config, split)
    weights = load_start(data / "efficientnet-lite0.safetensors")[0] if kind == "imagenet" else None
    save_file(known_start(config, Scans.join(parts), weights), out)


def by_class(predicted: np.ndarray, labels: np.ndarray, classes: int) -> list[float]:
    return [float((predicted[labels == c] == c).mean()) for c in range(classes)]


def on_statistics(stream: str, begun: Path, kind: str, seed: int, data: Path) -> list[dict[str, Any]]:
    """Accuracy of the solved classifier for every ε, number of hospitals and of scans a class, noise shared or not.

    The scans of a class are dealt to the hospitals one by one, and of few scans a class those are the first.
    """
    cortex = IMAGENET if kind == "imagenet" else RESNET
    config = experiment(STREAMS[stream], cortex, data, seed=seed, stream_train_per_class=1000)
    registry, test = scans_of(config, "test")
    _, train = scans_of(config, "train")
    classes, tested = len(registry.classes), Scans.join(test)
    held = {**Cortex(classes, config.cortex).weights(), **load_file(begun)}
    network = Cortex.of({name: tensor.float() for name, tensor in held.items()}, config.cortex)
    unseen = extract_features(network, tested.images).double()
    seen = [(extract_features(network, scans.images), torch.from_numpy(scans.labels)) for scans in train]
    ranks = [_ranks(labels) for _, labels in seen]
    rows = []
    for per_class, hospitals, spent in itertools.product((100, 400, 1000), (1, 3, 5), EPSILONS):
        for shared in (False, True) if hospitals > 1 and spent < math.inf else (False,):
            multiplier = multiplier_for(spent, DELTA) if spent < math.inf else 0.0
            each = multiplier / math.sqrt(hospitals) if shared else multiplier
            generator = np.random.default_rng([seed, per_class, hospitals, int(min(spent, 99)), int(shared)])
            sums: dict[str, torch.Tensor] = {}
            for task, ((features, labels), rank) in enumerate(zip(seen, ranks, strict=True)):
                parts = []
                for hospital in range(hospitals):
                    mine = (rank < per_class) & (rank % hospitals == hospital)
                    exact = statistics(features[mine], labels[mine], registry.seen(task))
                    parts.append(released(exact, registry.numbers(task), each, generator))
                mean = {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}
                reports = [Report(str(hospital), 1) for hospital in range(hospitals)]
                sums, moments = accumulated(mean, reports, sums, each * SENSITIVITY)
            solved = discriminant(moments, held, RIDGE)
            logits = unseen @ solved["classifier.weight"].double().T + solved["classifier.bias"].double()
            found = by_class(logits.argmax(1).numpy(), tested.labels, classes)
            row = {"stream": stream, "per_class": per_class, "hospitals": hospitals, "epsilon": spent}
            rows.append({**row, "shared": shared, "classes": found, "accuracy": float(np.mean(found))})
    return rows


def _ranks(labels: torch.Tensor) -> torch.Tensor:
    """Of each scan, how many of its class came before it."""
    members = torch.nn.functional.one_hot(labels)
    return (members.cumsum(0) - 1)[torch.arange(len(labels)), labels]


def learned(config: ExperimentConfig) -> dict[str, Any]:
    """Run an experiment in this process; accuracy by class on test scans, and what it keeps and took."""
    begun = time.perf_counter()
    run_locally(config)
    folder = folder_of(config.state_folder, config.name)
    held = load_weights(folder, load_checkpoint(folder))
    weights = {name: t for name, t in held.items() if name.startswith(("backbone.", "classifier.", "reduction."))}
    registry, parts = scans_of(config, "test")
    test = Scans.join(parts)
    found = by_class(
        predict(Cortex.of(weights, config.cortex), test.images).argmax(1), test.labels, len(registry.classes)
    )
    summary = summarise(RunStore(config.state_folder), config.name)
    return {"classes": found, "accuracy": float(np.mean(found)), "bytes": summary.bytes_per_sample,
            "epsilon_spent": summary.epsilon, "seconds": time.perf_counter() - begun}  # fmt: skip


def planned(samples: int, tasks: int, config: ExperimentConfig, multiplier: float) -> float:
    """The ε that a class of the first task will have spent once `tasks` equal tasks are learned by DP-SGD."""
    sleep, wake = config.sleep, config.wake
    spent = []
    for task in range(tasks):
        whole = Sampling.of(samples * (task + 1), sleep.batch_size, sleep.epochs)
        spent.append(Spent(multiplier, whole.rate, whole.steps))
    first = Sampling.of(samples, wake.batch_size, wake.epochs)
    return epsilon([Spent(multiplier, first.rate, first.steps), *spent], DELTA)


def by_updates(begun: Path, spent: float, seed: int, hospitals: int, data: Path, **more: Any) -> dict[str, Any]:
    """BrainCL by DP-SGD from a public start, the noise such that `spent` is spent when the last task is learned."""
    keys = {
        "cortex_weights": str(begun), "seed": seed, "stream_train_per_class": 400, "selection_per_class": 400,
        "federation_hospitals": hospitals, "memory_basis": "fixed", "memory_step": 0.6, "selection_rule": "random",
        "sleep_batch_size": 256 // hospitals, "wake_batch_size": 128, "sleep_epochs": 8, "sleep_rounds": 1,
        "sleep_learning_rate": 0.2, "sleep_momentum": 0.9, "sleep_weight_decay": 0.0, "wake_epochs": 5,
        "wake_learning_rate": 0.1, "cortex_precision": "float32", **more,
    }  # fmt: skip
    cortex = RESNET.replace("features: 64", "norm: group")
    with tempfile.TemporaryDirectory() as state:
        config = experiment(BLOOD, cortex, data, state_root=state, **keys)
        if spent < math.inf:
            low, high = 0.3, 200.0
            samples = 2 * 400 // hospitals
            for _ in range(40):
                middle = (low + high) / 2
                low, high = (low, middle) if planned(samples, 4, config, middle) <= spent else (middle, high)
            private = {"privacy_mode": "updates", "privacy_epsilon": 100, "privacy_noise_multiplier": high,
                       "privacy_figures_epsilon": 10}  # fmt: skip
            config = experiment(BLOOD, cortex, data, state_root=state, **keys, **private)
        return {**learned(config), "epsilon": spent, "hospitals": hospitals, "noise": config.privacy.noise_multiplier}


BASES: dict[str, dict[str, Any]] = {
    "task": {},
    "task, no guide": {"memory_guidance": 0},
    "fixed": {"memory_basis": "fixed"},
    "fixed, step 0.6": {"memory_basis": "fixed", "memory_step": 0.6},
    "fixed, step 0.8": {"memory_basis": "fixed", "memory_step": 0.8},
    "public": {"memory_basis": "public", "memory_public": ["retinamnist"]},
}


def on_basis(name: str, seed: int, data: Path) -> dict[str, Any]:
    """BrainCL without privacy, from scratch, under one of the memories."""
    keys = {"seed": seed, "stream_train_per_class": 400, "selection_per_class": 400, "sleep_epochs": 15,
            "sleep_batch_size": 32, "federation_hospitals": 1}  # fmt: skip
    with tempfile.TemporaryDirectory() as state:
        cortex = RESNET.replace(", features: 64", "")
        return {**learned(experiment(BLOOD, cortex, data, state_root=state, **keys, **BASES[name])), "basis": name}


Job = tuple[str, Callable[..., Any], tuple[Any, ...]]


BEGUN = (
    ("like", "batch"), ("half", "batch"), ("other", "batch"), ("like12", "batch"), ("like", "imagenet"),
    ("other", "imagenet"), ("like12", "imagenet"), ("like", "group"),
)  # fmt: skip
"""Starts that are made for every seed, and how their networks normalise, or whose they are."""


def jobs(parts: list[str], data: Path, out: Path) -> list[list[Job]]:
    """All runs, in waves: starts first."""
    waves: list[list[Job]] = [[], []]
    for seed in SEEDS:
        for name, kind in BEGUN:
            path = out / f"start-{name}-{kind}-{seed}.safetensors"
            waves[0].append((path.name, start, (name, kind, seed, data, path)))
            if "statistics" in parts and kind != "group":
                stream = "medmnist12" if name == "like12" else "blood"
                waves[1].append((f"statistics-{name}-{kind}-{seed}", on_statistics, (stream, path, kind, seed, data)))
        if "basis" in parts:
            waves[1] += [(f"basis-{name}-{seed}", on_basis, (name, seed, data)) for name in BASES]
        if "updates" in parts:
            path = out / f"start-like-group-{seed}.safetensors"
            waves[1] += [(f"updates-{spent}-{hospitals}-{seed}", by_updates, (path, spent, seed, hospitals, data))
                         for hospitals in (1, 3) for spent in EPSILONS]  # fmt: skip
    return waves


def one(job: Job, out: Path) -> str:
    """Run a job unless its file is there."""
    name, run, arguments = job
    path = out / (name if name.endswith(".safetensors") else f"{name}.json")
    if path.exists():
        return f"{name}: there"
    torch.set_num_threads(2)
    begun = time.perf_counter()
    found = run(*arguments)
    if found is not None:
        path.write_text(json.dumps(found))
    return f"{name}: {time.perf_counter() - begun:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BRAINCL_DATA", ".")))
    parser.add_argument("--parts", nargs="+", default=["statistics", "basis", "updates"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tables", action="store_true", help="print the tables of what OUT holds")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.tables:
        tables(args.out)
        return
    for wave in jobs(args.parts, args.data.resolve(), args.out.resolve()):
        with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
            waiting = [pool.submit(one, job, args.out.resolve()) for job in wave]
            for done in waiting:
                try:
                    print(done.result(), flush=True)
                except Exception as error:
                    print(f"failed: {error}", file=sys.stderr, flush=True)


def _mean(values: list[float], scale: float = 100, digits: int = 1) -> str:
    spread = f" ± {scale * np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{scale * np.mean(values):.{digits}f}{spread}" if values else ""


def _table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n")
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")


def _statistics(name: str, rows: list[dict[str, Any]]) -> None:
    """Two tables of one start: accuracy by ε, and by class."""

    def at(per_class: int, hospitals: int, spent: float, shared: bool) -> list[dict[str, Any]]:
        key = (per_class, hospitals, spent, shared and spent < math.inf)
        return [r for r in rows if (r["per_class"], r["hospitals"], r["epsilon"], r["shared"]) == key]

    lines = []
    for per_class, hospitals in itertools.product((100, 400, 1000), (1, 3, 5)):
        for shared in (False, True) if hospitals > 1 else (False,):
            found = [[r["accuracy"] for r in at(per_class, hospitals, e, shared)] for e in EPSILONS]
            ratio = float(np.mean(found[1]) / np.mean(found[-1]))
            start = [str(per_class), str(hospitals), "shared" if shared else "each"]
            lines.append([*start, *map(_mean, found), f"{ratio:.3f}"])
    by_epsilon = [f"ε = {e:g}" if e < math.inf else "no noise" for e in EPSILONS]
    stream = rows[0]["stream"]
    head = ["scans a class", "hospitals", "noise", *by_epsilon, "ε = 3 of no noise"]
    _table(f"{name} ({stream}): last accuracy, %", head, lines)
    means = [np.mean([r["classes"] for r in at(400, 1, e, False)], 0) for e in EPSILONS]
    classes = [[label, *(f"{100 * x:.0f}" for x in mean)] for label, mean in zip(by_epsilon, means, strict=True)]
    head = ["400 scans a class, one hospital", *(f"class {n}" for n in range(len(means[0])))]
    _table(f"{name} ({stream}) by class, %", head, classes)


def tables(out: Path) -> None:
    """Print what was found as Markdown, means and standard deviations over seeds."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(out.glob("*.json"))}
    for name in sorted({name.rsplit("-", 1)[0] for name in found if name.startswith("statistics-")}):
        rows = [row for seed in SEEDS for row in found.get(f"{name}-{seed}", [])]
        _statistics(name.removeprefix("statistics-"), rows)
    lines = []
    for name in BASES:
        runs = [found[key] for seed in SEEDS if (key := f"basis-{name}-{seed}") in found]
        of = _mean([r["accuracy"] for r in runs]), _mean([r["bytes"] for r in runs], 1)
        lines.append([name, *of, str(len(runs))])
    _table("Memory bases", ["basis", "last accuracy, %", "bytes a scan", "seeds"], lines)
    lines = []
    for hospitals, e in itertools.product((1, 3), EPSILONS):
        runs = [found[key] for seed in SEEDS if (key := f"updates-{e}-{hospitals}-{seed}") in found]
        noise = _mean([r["noise"] for r in runs], 1, 2) if e < math.inf else "none"
        seconds = _mean([r["seconds"] for r in runs], 1, 0)
        lines.append([str(hospitals), f"{e:g}", _mean([r["accuracy"] for r in runs]), noise, seconds, str(len(runs))])
    head = ["hospitals", "ε", "last accuracy, %", "noise multiplier", "seconds", "seeds that finished"]
    _table("Updates by DP-SGD", head, lines)


if __name__ == "__main__":
    main()
