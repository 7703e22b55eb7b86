"""One hospital: its scans, its vault, and one method a phase. Knows nothing of Flower."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from braincl_med.cortex.cortex import Cortex, Weights, apart, extract_features
from braincl_med.cortex.familiarity import Familiarity
from braincl_med.cortex.gaussians import MOMENTS, moments
from braincl_med.evaluation.continual import Figures
from braincl_med.evaluation.rejection import histogram, scores_of
from braincl_med.foundation.errors import BrainclError, VaultError
from braincl_med.foundation.files import canonical_json, sha256_of
from braincl_med.foundation.seeding import seed_everything, seed_for
from braincl_med.memory.coding import FrequencyTables
from braincl_med.memory.module import fit, recall_error
from braincl_med.memory.training import Progress
from braincl_med.messages.order import Order, Report
from braincl_med.methods import METHODS
from braincl_med.methods.base import Answers
from braincl_med.methods.exemplars import exemplar_count
from braincl_med.methods.kept import Kept
from braincl_med.phases.objectives import objective_of
from braincl_med.phases.select import select
from braincl_med.phases.sleep import calibrate, sleep
from braincl_med.phases.wake import rows_from_class_means, wake
from braincl_med.settings.config import ALL_CLASSES, ExperimentConfig
from braincl_med.streams.medmnist import MissingScansError
from braincl_med.streams.named import unknown_sets
from braincl_med.streams.source import ScanSource
from braincl_med.streams.tasks import Registry, Scans
from braincl_med.vault.cuefile import CODER, CueFile, Header, Shard
from braincl_med.vault.vault import Vault

log = logging.getLogger("braincl")
CALIBRATION_BATCH = 128


@dataclass(frozen=True)
class Hospital:
    """A hospital in one experiment.

    Attributes:
        name: as it appears in records, for example `site-0`.
        config: the experiment.
        source: its scans; training scans are read in `encode` only (and by methods to compare with).
        vault: its memories.
    """

    name: str
    config: ExperimentConfig
    source: ScanSource
    vault: Vault

    def answer(self, order: Order) -> Report:
        """Carry out one step; whatever goes wrong becomes one sentence without path or traceback."""
        phases = {
            "encode": self.encode,
            "wake": self.wake,
            "select": self.select,
            "sleep": self.sleep,
            "train": self.sleep,
            "calibrate": self.calibrate,
            "discriminate": self.discriminate,
            "evaluate": self.evaluate,
        }
        own = METHODS[self.config.method].phases
        try:
            if order.phase not in {*phases, *own}:
                raise BrainclError(
                    f"unknown phase '{order.phase}', this hospital knows {', '.join({**phases, **own})}"
                )
            seed_everything(self.seed(order))
            return own[order.phase](self, order) if order.phase in own else phases[order.phase](order)
        except BrainclError as error:
            log.error("%s: %s failed: %s", self.name, order, error)
            return Report(self.name, failure=str(error))
        except (MemoryError, torch.OutOfMemoryError):
            return Report(self.name, failure=f"{order.phase} needs more memory than this hospital's machine has")
        except Exception as error:
            log.exception("%s: %s failed", self.name, order)
            return Report(self.name, failure=f"unexpected {type(error).__name__} in {order.phase}; see the local log")

    def encode(self, order: Order) -> Report:
        """Fit the memory module on the task's scans and commit their cues as working memory; then forget the scans.

        A task that is already in the vault under the same key is not encoded again, so a repeated order is harmless.
        Tasks that this hospital missed, because it was away, are made up for.
        """
        erased = {erasure.task for erasure in self.vault.erasures()}
        for earlier in range(order.task):
            if self.vault.entry(earlier) is None and earlier not in erased:
                try:
                    self._encode(replace(order, task=earlier))
                except BrainclError as error:
                    log.warning("%s: task %d was missed and cannot be made up for: %s", self.name, earlier, error)
        return self._encode(order)

    def _encode(self, order: Order) -> Report:
        key = self._memory_key(order)
        entry = self.vault.entry(order.task)
        if entry is not None:
            if entry.key != key:
                raise VaultError(
                    f"the vault already holds task {order.task} of another experiment named '{order.experiment}', "
                    "or of another share of its scans: choose another name, give back its partition-id, "
                    "or erase that memory first"
                )
            return Report(self.name, examples=self.vault.load_entry(entry).records)
        scans = self.source.scans(order.registry, order.task, "train")
        if not len(scans):
            return Report(self.name)
        module = fit(scans.images, self.config.memory, self.seed(order), scans.labels, self._progress("memory"))
        cues = module.encode(scans.images)
        labels = np.unique(scans.labels).tolist()
        by_class = {label: cues[scans.labels == label] for label in labels}
        shards = tuple(
            Shard(
                label=label,
                dataset_label=order.registry.classes[label].key,
                records=len(by_class[label]),
                words=0,
                recall_error=recall_error(module.completion, by_class[label], scans.images[scans.labels == label]),
            )
            for label in labels
        )
        header = Header(
            experiment=order.experiment,
            task=order.task,
            task_name=order.registry.tasks[order.task].name,
            memory="working",
            key=key,
            coder=CODER,
            shape=module.completion.shape.as_json(),
            shards=shards,
        )
        self.vault.remember(CueFile.pack(header, by_class, FrequencyTables.of(cues), module.stored))
        return Report(self.name, examples=len(scans))

    def wake(self, order: Order) -> Report:
        """Train the classifier on the task's recalled scans; returns the classifier alone."""
        config = self.config.wake
        recalled = self.recalled(order.task)
        if not len(recalled):
            return Report(self.name)
        cortex = Cortex.of(order.weights, self.config.cortex)
        if config.new_rows == "class-mean" and order.round == 0:
            rows_from_class_means(cortex, recalled, order.registry.numbers(order.task))
        epochs = config.epochs * (order.round + 1) // config.rounds - config.epochs * order.round // config.rounds
        new = order.registry.numbers(order.task)
        rows = new if config.rows == "new" else range(new.stop)
        loss = wake(cortex, recalled, config, rows, epochs, self.seed(order))
        changed = {name: t for name, t in cortex.weights().items() if name.startswith("classifier.")}
        return Report(self.name, len(recalled), _finite(loss), self.class_counts(order, recalled), changed)

    def select(self, order: Order) -> Report:
        """Move the samples that represent their class best to long-term memory; empty working memory.

        Of earlier tasks too, where this hospital missed that.
        """
        for task in range(order.task + 1):
            entry = self.vault.entry(task)
            if entry is not None and entry.memory == "working":
                recalled = self.recalled(task)
                cortex = Cortex.of(order.weights, self.config.cortex)
                features = extract_features(cortex, recalled.images).numpy()
                selection, seed = self.config.selection, self.seed(replace(order, task=task))
                kept = select(features, recalled.labels, selection.per_class, selection.rule, seed)
                self.vault.consolidate(task, kept, entry.sha256)
        held = self.vault.entry(order.task) is not None
        return Report(self.name, examples=self.vault.load(order.task).records if held else 0)

    def sleep(self, order: Order) -> Report:
        """Train the whole network on this hospital's samples of all tasks that the method trains on."""
        method = METHODS[self.config.method]
        samples = method.samples(self, order.registry, order.task)
        # Batch statistics of a single scan mean nothing, and torch refuses them.
        if len(samples) < 2:
            return Report(self.name)
        cortex = method.network(order.weights, self.config.cortex)
        objective = method.objective(self, order, cortex) or objective_of(self.config.sleep, samples.labels, cortex)
        dithering = self.config.sleep.dithering if method.recalls else 0.0
        seed = self.seed(order)
        loss = sleep(cortex, samples, self.config.sleep, order.round, seed, dithering, objective)
        return Report(self.name, len(samples), _finite(loss), self.class_counts(order, samples), cortex.trainable())

    def calibrate(self, order: Order) -> Report:
        """Take the shared network's normalisation statistics anew on the samples it was trained on."""
        method = METHODS[self.config.method]
        samples = method.samples(self, order.registry, order.task)
        if len(samples) < 2:
            return Report(self.name)
        samples = samples.take(np.random.default_rng(self.seed(order)).permutation(len(samples)))
        cortex = method.network(order.weights, self.config.cortex)
        calibrate(cortex, samples, CALIBRATION_BATCH)
        changed = {n: t for n, t in cortex.trainable().items() if "running_" in n or "num_batches_tracked" in n}
        return Report(self.name, len(samples), weights=changed)

    def discriminate(self, order: Order) -> Report:
        """Tell the moments of the shared network's features over this hospital's samples of all tasks."""
        method = METHODS[self.config.method]
        samples = method.samples(self, order.registry, order.task)
        if not len(samples):
            return Report(self.name)
        features = extract_features(method.network(order.weights, self.config.cortex), samples.images)
        told = moments(features, torch.from_numpy(samples.labels), order.registry.seen(order.task))
        return Report(self.name, len(samples), weights=told)

    def evaluate(self, order: Order) -> Report:
        """Count this hospital's raw test or validation scans by true and predicted class, and their scores."""
        method = METHODS[self.config.method]
        shared, told = apart(order.weights, MOMENTS)
        cortex = method.network(shared, self.config.cortex)
        seen = order.registry.seen(order.task)
        confusion = np.zeros((seen, seen), np.int64)
        groups: dict[str, list[Mapping[str, Figures]]] = {}
        familiarity = self.familiarity(order, cortex, told)

        def answered(images: npt.NDArray[np.uint8]) -> Answers:
            answers = method.answer(cortex, images, self.config)
            scores = {**scores_of(answers.logits), **answers.scores}
            if familiarity is not None and answers.features is not None:
                scores["familiarity"] = familiarity.scores(answers.features)
            return Answers(answers.logits, scores)

        for task in range(len(order.registry.tasks)):
            scans = self.source.scans(order.registry, task, self.config.stream.evaluate)
            answers = answered(scans.images)
            scores = answers.scores
            if task > order.task:
                groups.setdefault("unknown-near", []).append(scores)
                continue
            predicted = answers.logits.argmax(1)
            np.add.at(confusion, (scans.labels, predicted), 1)
            right = predicted == scans.labels
            groups.setdefault("known-correct", []).append({kind: values[right] for kind, values in scores.items()})
            groups.setdefault("known-wrong", []).append({kind: values[~right] for kind, values in scores.items()})
        for dataset in unknown_sets(self.config.stream, order.registry):
            try:
                images = self.source.unknown(dataset)
            except MissingScansError as error:
                if self.config.stream.unknown:
                    raise
                # Nobody asked for the default set, so its absence only leaves its figures out.
                log.info("%s: no far unknown scans: %s", self.name, error)
                continue
            groups.setdefault("unknown-far", []).append(answered(images).scores)
        histograms: dict[str, dict[str, list[int]]] = {}
        for group, parts in groups.items():
            for kind in parts[0]:
                together = np.concatenate([part[kind] for part in parts])
                histograms.setdefault(kind, {})[group] = histogram(kind, together).tolist()
        storage = {**self.vault.sizes(), **self.kept.sizes(), **method.extra_bytes(shared)}
        storage["records"] += exemplar_count(self.kept)
        figures = {"confusion": confusion.tolist(), "scores": histograms, "storage": storage}
        return Report(self.name, examples=int(confusion.sum()), figures=figures)

    def familiarity(self, order: Order, cortex: Cortex, told: Weights) -> Familiarity | None:
        """Where the features of all hospitals' samples lie; where no moments were told, of this one's.

        None for a hospital without samples and for a method that has none of every class. The samples are those that
        the method trains on, so BrainCL's are recalled.
        """
        if told:
            return Familiarity.of(told)
        if self.config.method not in ALL_CLASSES:
            return None
        samples = METHODS[self.config.method].samples(self, order.registry, order.task)
        if not len(samples):
            return None
        features, labels = extract_features(cortex, samples.images), torch.from_numpy(samples.labels)
        return Familiarity.of(moments(features, labels, order.registry.seen(order.task)))

    def class_counts(self, order: Order, samples: Scans) -> dict[str, list[int]]:
        """How many samples of each class there are here, which is said only where the server needs it."""
        if self.config.federation.classifier_rows != "by-class":
            return {}
        return {"classes": np.bincount(samples.labels, minlength=order.registry.seen(order.task)).tolist()}

    @property
    def kept(self) -> Kept:
        """What a method to compare with keeps beside the vault's memories."""
        return Kept(self.vault.folder / "kept")

    def raw(self, registry: Registry, task: int) -> Scans:
        """This hospital's raw training scans of a task; BrainCL never asks for them after `encode`."""
        return self.source.scans(registry, task, "train")

    def recalled(self, task: int) -> Scans:
        """The recalled samples of a task, none when the vault has no memory of it; decoded once a process."""
        entry = self.vault.entry(task)
        if entry is None:
            return Scans.none(self.config.stream.size)
        return _recall(self.vault.folder, task, entry.sha256)

    def seed(self, order: Order) -> int:
        """The seed of all that is random in an order."""
        return seed_for(self.config.seed, self.name, order.task, order.phase, order.round)

    def _memory_key(self, order: Order) -> str:
        """SHA-256 of all that decides the cues of a task at this hospital."""
        stream = self.config.stream
        decided_by: dict[str, Any] = {
            "seed": self.config.seed,
            "hospital": self.name,
            "hospitals": self.config.federation.hospitals,
            "classes": [c.key for c in order.registry.tasks[order.task].classes],
            "numbers": list(order.registry.numbers(order.task)),
            "memory": self.config.memory.model_dump(mode="json"),
            "scans": [stream.train_per_class, stream.imbalance, stream.size, stream.share, stream.alpha],
        }
        # Said only where it is not the rule, so that memories of simulated hospitals keep their key.
        if self.name != f"site-{self.source.hospital}":
            decided_by["partition"] = self.source.hospital
        if stream.allow_unofficial:
            decided_by["unofficial"] = True
        return sha256_of(canonical_json(decided_by))

    def _progress(self, what: str) -> Progress:
        """A progress bar on a terminal; nothing in a log."""
        bar: Any = None

        def show(epoch: int, epochs: int, state: str) -> None:
            nonlocal bar
            if bar is None:
                bar = tqdm(desc=f"{self.name} {what}", unit="epoch", total=epochs, disable=None, leave=False)
            bar.set_postfix_str(state)
            bar.update(epoch - bar.n)
            if epoch == epochs:
                bar.close()
                bar = None

        return show


@lru_cache(maxsize=64)
def _recall(folder: Path, task: int, sha256: str) -> Scans:
    """Recalled scans by the digest of their cue file: the same for a whole sleep phase, held as uint8 in memory."""
    scans = Vault(folder).recall(task)
    log.debug("recalled %d scans of task %d from %s", len(scans), task, sha256[:8])
    return scans


def _finite(loss: float) -> float | None:
    return loss if np.isfinite(loss) else None
