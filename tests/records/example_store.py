"""A run store as an experiment leaves it, without running one: 3 tasks of 2 classes, 3 hospitals, seeded counts."""

from pathlib import Path
from typing import Any

import numpy as np

from braincl_med.evaluation.rejection import histogram
from braincl_med.records.schema import Step
from braincl_med.records.store import RunStore
from braincl_med.settings.config import ExperimentConfig
from braincl_med.streams.tasks import ClassSpec, Registry, TaskSpec

HOSPITALS = ("site-0", "site-1", "site-2")
SYNTHETIC = "SYNTHETIC PHANTOM SCANS, NOT MEDICAL DATA (phantom-blood, phantom-breast), 28 px"
REAL = "MedMNIST (bloodmnist, breastmnist, pneumoniamnist), 28 px"
TASKS = (
    ("blood-cells", "bloodmnist", ("blood: basophil", "blood: immature granulocytes")),
    ("breast-ultrasound", "breastmnist", ("breast: malignant", "breast: normal, benign")),
    ("chest-x-ray", "pneumoniamnist", ("pneumonia: normal", "pneumonia: pneumonia")),
)
REGISTRY = Registry(
    tasks=tuple(
        TaskSpec(
            name=name,
            classes=tuple(ClassSpec(dataset=data, label=i, name=n) for i, n in enumerate(names)),
        )
        for name, data, names in TASKS
    )
)
DRAWN = Registry.model_validate_json(
    REGISTRY.model_dump_json().replace('"bloodmnist"', '"phantom-blood"').replace('"breastmnist"', '"phantom-breast"')
)
"""The same as if some of it were phantoms."""
PHASES = {
    "braincl": ("encode", "wake", "select", "sleep", "sleep", "evaluate"),
    "finetune": ("train", "train", "evaluate"),
}
KEPT = {"braincl": (0.93, 0.06), "finetune": (0.95, 0.42)}
"""Accuracy of a class just learned, and what each further task takes from it."""


def settings(name: str, method: str) -> dict[str, Any]:
    """The settings that `begin` stores."""
    return ExperimentConfig.model_validate({"name": name, "method": method, "seed": 7}).as_result_settings()


def begin(store: RunStore, name: str, method: str = "braincl", data: str = SYNTHETIC) -> None:
    """An experiment that has only begun."""
    registry = DRAWN if data == SYNTHETIC else REGISTRY
    store.begin(settings(name, method), registry, {"python": "3.11.9", "torch": "2.11.0"}, data)


def confusion_after(task: int, method: str, rng: np.random.Generator) -> np.ndarray:
    """One hospital's counts: errors fall on classes learned later, as forgetting has it."""
    seen = REGISTRY.seen(task)
    first, loss = KEPT[method]
    counts = np.zeros((seen, seen), np.int64)
    for number in range(seen):
        share = max(0.02, first - loss * (task - REGISTRY.task_of(number)) - 0.02 * number)
        others = [n for n in range(seen) if n != number]
        weights = np.array([1.0 + 3 * (n > number) for n in others])
        scans = 40 if number != 2 else 8
        counts[number, number] = rng.binomial(scans, share)
        wrong = rng.multinomial(scans - counts[number, number], weights / weights.sum())
        counts[number, others] = wrong
    return counts


def scores_after(task: int, confusion: np.ndarray, rng: np.random.Generator) -> dict[str, dict[str, list[int]]]:
    """One hospital's histograms; after the last task nothing is left to be near-unknown."""
    right = int(np.trace(confusion))
    groups = {
        "known-correct": (right, 9.0, 0.97),
        "known-wrong": (int(confusion.sum()) - right, 5.5, 0.7),
        "unknown-far": (60, 3.5, 0.6),
    }
    if task + 1 < len(TASKS):
        groups["unknown-near"] = (80, 5.0, 0.72)
    scores: dict[str, dict[str, list[int]]] = {"familiarity": {}, "energy": {}, "max-softmax": {}}
    for group, (scans, energy, softmax) in groups.items():
        scores["familiarity"][group] = histogram("familiarity", -rng.normal(60 - 4 * energy, 6, scans)).tolist()
        scores["energy"][group] = histogram("energy", rng.normal(energy, 1.8, scans)).tolist()
        spread = rng.beta(20 * softmax, 20 * (1 - softmax), scans)
        scores["max-softmax"][group] = histogram("max-softmax", spread).tolist()
    return scores


def storage_after(task: int, method: str) -> dict[str, int]:
    """One hospital's bytes at rest."""
    grown = task + 1 if method == "braincl" else 0
    return {
        "cues": 61_000 * grown,
        "tables": 5_300 * grown,
        "completion": 352_000 * grown,
        "index": 900 * grown,
        "records": 1_300 * grown,
    }


def learn(store: RunStore, name: str, method: str, tasks: int = len(TASKS)) -> None:
    """Record the first `tasks` tasks; in the second one site-2 misses a step."""
    rng = np.random.default_rng(7)
    for task in range(tasks):
        for position, phase in enumerate(PHASES[method]):
            absent = {"site-2": "no answer in time"} if (task, position) == (1, 1) else {}
            trained = phase in ("wake", "sleep", "train")
            store.record_step(
                name,
                Step(
                    task=task,
                    position=position,
                    phase=phase,
                    round=PHASES[method][:position].count(phase),
                    seconds=12.5 * (position + 1),
                    bytes_down=0 if phase == "encode" else 3 * 44_700_000,
                    bytes_up=(3 - len(absent)) * (44_700_000 if trained else 2_100),
                    loss=0.4 / (position + 1) if trained else None,
                    examples=3_900,
                    hospitals=tuple(h for h in HOSPITALS if h not in absent),
                    missing=absent,
                ),
            )
        for hospital in HOSPITALS:
            confusion = confusion_after(task, method, rng)
            store.record_evaluation(
                name, task, hospital, confusion, scores_after(task, confusion, rng), storage_after(task, method)
            )


AUDIT: dict[str, Any] = {
    "vaults": [
        {
            "vault": "site-0",
            "passed": True,
            "experiments": ["memories"],
            "checks": [
                {"check": "only files of the manifest", "passed": True, "detail": "3 cue files and a manifest"},
                {"check": "no image hidden in the bytes", "passed": True, "detail": "0 of 3 files hold an image"},
            ],
            "files": [
                {"file": f"task-00{t}.long-term.cue", "bytes": 419_200, "records": 1_300, "bits-per-scan": 375.4}
                for t in range(3)
            ],
            "fidelity": {"psnr": 22.4, "ssim": 0.713, "re-identified": 0.31, "scans": 64},
        },
        {
            "vault": "site-1",
            "passed": False,
            "experiments": ["memories"],
            "checks": [
                {
                    "check": "only files of the manifest",
                    "passed": False,
                    "detail": "'scan-17.png' is not named there",
                },
                {"check": "no image hidden in the bytes", "passed": True, "detail": "0 of 3 files hold an image"},
            ],
            "files": [],
            "fidelity": None,
        },
    ]
}


def build_example(folder: Path) -> RunStore:
    """A store with two finished experiments, `memories` (braincl) and `no-memory` (finetune), and a failed audit."""
    store = RunStore(folder, create=True)
    for name, method in (("no-memory", "finetune"), ("memories", "braincl")):
        begin(store, name, method)
        learn(store, name, method)
        store.end(name, "finished")
    store.record_audit(False, AUDIT)
    return store
