"""BrainCL: semi-parametric memory and wake-sleep consolidation (arXiv 2504.14727).

encode ─► the memory module is fitted to the task's scans, their cues are committed, the scans are forgotten
wake   ─► the classifier alone learns the new classes from recalled samples
select ─► the samples that represent their class best move to long-term memory
sleep  ─► the whole network is trained on all of long-term memory

Under `privacy-mode: statistics` a task is `release`, which is encode with one noisy sum, and `evaluate`.
"""

import logging
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from braincl_med.cortex.cortex import Cortex, extract_features
from braincl_med.foundation.errors import BrainclError, DataError, VaultError
from braincl_med.foundation.files import canonical_json, sha256_of
from braincl_med.foundation.progress import bar
from braincl_med.memory.coding import FrequencyTables
from braincl_med.memory.module import fit, recall_error
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.base import Method
from braincl_med.methods.evaluate import EVALUATE
from braincl_med.methods.phase import CLASSIFIER, WEIGHTS, Need, Phase, Schedule, Site, rounds
from braincl_med.methods.private import TOLD_STATISTICS, tell_statistics, tell_update
from braincl_med.methods.training import SHARED, learned, train, training_rounds
from braincl_med.phases.dpsgd import Sampling, wake_privately
from braincl_med.phases.rounds import epochs_of_round
from braincl_med.phases.select import select
from braincl_med.phases.wake import wake
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.memory import spelled_as_one_section
from braincl_med.streams.tasks import Registry, Scans
from braincl_med.vault.cuefile import CODER, CueFile, Header, Shard
from braincl_med.vault.pruning import pruned
from braincl_med.vault.verify import check

log = logging.getLogger("braincl")


def _encode(site: Site, order: Order) -> Report:
    """Fit the memory module on the task's scans and commit their cues as working memory; then forget the scans.

    A task that is already in the vault under the same key is not encoded again, so a repeated order is harmless.
    Tasks that this hospital missed, because it was away, are made up for.
    """
    for earlier in _missed(site, order):
        try:
            _encode_task(site, replace(order, task=earlier))
        except BrainclError as error:
            log.warning("%s: task %d was missed and cannot be made up for: %s", site.name, earlier, error)
    return Report(site.name, examples=_encode_task(site, order))


def _missed(site: Site, order: Order) -> list[int]:
    """The earlier tasks that this hospital has no memory of, because it was away and not because it was erased.

    Raises:
        VaultError: a memory was lost or changed. That is looked at before anything is learned, not at sleep: it
            cannot be made up for.
    """
    check(site.vault)
    erased = {erasure.task for erasure in site.vault.erasures()}
    return [task for task in range(order.task) if site.vault.entry(task) is None and task not in erased]


def _release(site: Site, order: Order) -> Report:
    """Encode as `_encode` does, and tell one noisy sum of the features of the scans that were encoded.

    A repeated order finds the task in the vault, and is answered by the numbers of the first time.
    """
    scans = {}
    for task in _missed(site, order):
        try:
            scans[task] = site.raw(order.registry, task)
        except BrainclError as error:
            log.warning("%s: task %d was missed and cannot be made up for: %s", site.name, task, error)
    if site.vault.entry(order.task) is None:
        scans[order.task] = site.raw(order.registry, order.task)
    report = tell_statistics(site, order, scans)
    for task, raw in scans.items():
        _encode_task(site, replace(order, task=task), raw)
    return report


def _encode_task(site: Site, order: Order, raw: Scans | None = None) -> int:
    """Encode one task, whose raw scans may be at hand; returns how many records the vault then holds of it."""
    key = memory_key(site, order.registry, order.task)
    entry = site.vault.entry(order.task)
    if entry is not None:
        if entry.key != key:
            raise VaultError(
                f"the vault already holds task {order.task} of another experiment named '{site.config.name}', "
                "or of another share of its scans: choose another name, give back its partition-id, "
                "or erase that memory first"
            )
        return site.vault.load_entry(entry).records
    scans = site.raw(order.registry, order.task) if raw is None else raw
    if not len(scans):
        return 0
    teachers = site.public() or scans
    module = fit(teachers.images, site.config.memory, site.seed(order), teachers.labels, bar(f"{site.name} memory"))
    if module.completion.shape.channels == 1 and bool((scans.images != scans.images[..., :1]).any()):
        raise DataError("the public scans that teach the memory are grey, the task's are coloured: name others")
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
        experiment=site.config.name,
        task=order.task,
        task_name=order.registry.tasks[order.task].name,
        memory="working",
        key=key,
        coder=CODER,
        shape=module.completion.shape.as_json(),
        shards=shards,
    )
    site.vault.remember(pruned(CueFile.pack(header, by_class, FrequencyTables.of(cues), module.stored)))
    return len(scans)


def memory_key(site: Site, registry: Registry, task: int) -> str:
    """SHA-256 of all that decides the cues of a task at this hospital."""
    return key_at(site.config, site.name, site.share, registry, task)


def key_at(config: ExperimentConfig, hospital: str, share: int, registry: Registry, task: int) -> str:
    """The `memory_key` of a hospital by its name and the number of its share."""
    stream = config.stream
    decided_by: dict[str, Any] = {
        "seed": config.seed,
        "hospital": hospital,
        "hospitals": registry.tasks[task].dealt or config.federation.hospitals,
        "classes": [c.key for c in registry.tasks[task].classes],
        "numbers": list(registry.numbers(task)),
        "memory": spelled_as_one_section(config.memory),
        "scans": [stream.train_per_class, stream.imbalance, stream.size, stream.share, stream.alpha],
    }
    # Said only where it is not the rule, so that memories of simulated hospitals keep their key.
    if hospital != f"site-{share}":
        decided_by["partition"] = share
    if stream.fit != "pad":
        decided_by["fit"] = stream.fit
    if stream.allow_unofficial:
        decided_by["unofficial"] = True
    return sha256_of(canonical_json(decided_by))


def _wake(site: Site, order: Order) -> Report:
    """Train the classifier on the task's recalled scans."""
    config = site.config.wake
    recalled = site.recalled(order.task)
    if not len(recalled):
        return Report(site.name)
    new = order.registry.numbers(order.task)
    rows = new if config.rows == "new" else range(new.stop)
    _, epochs = epochs_of_round(config.epochs, config.rounds, order.round)
    if site.config.privacy.mode == "updates":
        sampling = Sampling.of(len(recalled), config.batch_size, epochs)
        learn = partial(
            wake_privately, samples=recalled, config=config, privacy=site.config.privacy, rows=rows, epochs=epochs
        )
        return tell_update(site, order, CLASSIFIER, recalled, sampling, learn)
    cortex = Cortex.of(order.weights, site.config.cortex)
    loss = wake(cortex, recalled, config, rows, epochs, site.seed(order))
    return learned(site, order, cortex, CLASSIFIER, recalled, loss)


def _select(site: Site, order: Order) -> Report:
    """Move the samples that represent their class best to long-term memory; empty working memory.

    Of earlier tasks too, where this hospital missed that.
    """
    selection = site.config.selection
    for task in range(order.task + 1):
        entry = site.vault.entry(task)
        if entry is not None and entry.memory == "working":
            recalled = site.recalled(task)
            cortex = Cortex.of(order.weights, site.config.cortex)
            features = extract_features(cortex, recalled.images).numpy()
            seed = site.seed(replace(order, task=task))
            kept = select(features, recalled.labels, selection.per_class, selection.rule, seed)
            site.vault.consolidate(task, kept, entry.sha256)
    held = site.vault.entry(order.task) is not None
    return Report(site.name, examples=site.vault.load(order.task).records if held else 0)


def _samples(site: Site, registry: Registry, task: int) -> Scans:
    """Everything in long-term memory, all tasks up to `task` mixed."""
    return Scans.join(site.recalled(t) for t in range(task + 1))


ENCODE = Phase("encode", _encode, need=Need.NOTHING)
RELEASE = Phase("release", _release, TOLD_STATISTICS, bounded=frozenset({"statistics"}))
WAKE = Phase("wake", _wake, CLASSIFIER, bounded=frozenset({"updates"}))
SELECT = Phase("select", _select)
SLEEP = Phase("sleep", train, WEIGHTS, bounded=frozenset({"updates"}))


def _schedule(config: ExperimentConfig) -> Schedule:
    """Encode, wake, select, sleep, evaluate; without sleep, working memory is neither selected from nor replayed.

    Where only statistics may be told, the backbone is not trained, and the classifier is solved from them.
    """
    if config.privacy.mode == "statistics":
        return ((RELEASE, 0), (EVALUATE, 0))
    awake = rounds(WAKE, config.wake.rounds) if config.wake.enabled else ()
    asleep = ((SELECT, 0), *training_rounds(config, SLEEP)) if config.sleep.enabled else ()
    return ((ENCODE, 0), *awake, *asleep, (EVALUATE, 0))


BRAINCL = Method(
    "braincl", (ENCODE, RELEASE, WAKE, SELECT, SLEEP, *SHARED, EVALUATE), _schedule, _samples, recalls=True
)
