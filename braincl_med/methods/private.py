"""What a hospital answers under differential privacy: every number goes through its ledger (docs/privacy.md).

release  ─► the task's cues are committed as in `encode`, and one noisy sum of the scans' features is told
wake     ─► under `updates`: the classifier's rows, by DP-SGD; sleep alike the whole network
evaluate ─► counts of test scans by true and predicted class are told with noise, and nothing else is
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from braincl_med.cortex.cortex import Cortex, Weights, extract_features
from braincl_med.cortex.gaussians import MOMENTS
from braincl_med.dp.counts import noisy_counts, shares_of
from braincl_med.dp.gaussian import multiplier_for, secret_generator
from braincl_med.dp.ledger import Entry, Kind, Unit
from braincl_med.dp.shares import count_deviation, noise_share
from braincl_med.dp.statistics import COUNTS, impossible_statistics, no_statistics, released, statistics
from braincl_med.foundation.errors import PrivacyError
from braincl_med.foundation.files import canonical_json, sha256_of
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.phase import Answer, Site
from braincl_med.phases.dpsgd import Sampling
from braincl_med.streams.tasks import ClassSpec, Scans

CONFUSION = "confusion"
TOLD_STATISTICS = Answer(no_statistics, impossible=impossible_statistics, adds_up=True)


def digest_of(site: Site, order: Order) -> str:
    """SHA-256 of all that decides an answer: asked for once more, under the same settings, it is no new release."""
    classes = [spec.key for spec in order.registry.classes[: order.registry.seen(order.task)]]
    tensors = [
        (name, sha256_of(tensor.contiguous().numpy().tobytes())) for name, tensor in sorted(order.weights.items())
    ]
    asked = [order.experiment, order.task, order.phase, order.round, classes, tensors]
    # How answers are joined decides none of them, but for the share of the noise.
    settings = {name: section for name, section in site.config.as_result_settings().items() if name != "federation"}
    shared = [noise_share(site.config)] if site.config.privacy.noise == "shared" else []
    return sha256_of(canonical_json([*asked, settings, site.share, site.config.federation.hospitals, *shared]))


def entry_of(site: Site, order: Order, scans: Kind, classes: Iterable[ClassSpec], **cost: Any) -> Entry:
    """The ledger's entry of an order: which scans of which classes it reads, and what that costs (`Entry`)."""
    return Entry(
        order=digest_of(site, order),
        experiment=order.experiment,
        task=order.task,
        phase=order.phase,
        round=order.round,
        scans=scans,
        # Under all labels of theirs: another experiment may reach the same scans by another name or the code alone.
        classes=tuple(f"{spec.dataset}/{label}" for spec in classes for label in spec.labels),
        **cost,
    )


def once(site: Site, order: Order, entry: Entry, make: Callable[[], Weights]) -> Weights:
    """What an order is answered with: the numbers that it was answered with before, or new ones, entered first.

    Raises:
        PrivacyError: new ones would pass the hospital's budget.
    """
    answered = site.ledger.answered(entry.order, entry.experiment)
    if answered is not None:
        return answered
    site.ledger.enter(entry)
    answer = make()
    site.ledger.keep(entry.order, entry.experiment, answer)
    return answer


def tell_statistics(site: Site, order: Order, scans: dict[int, Scans]) -> Report:
    """Tell the noisy statistics of raw scans by task; of a task without scans here too, which is nobody's business.

    Of no task at all, where all were encoded before, there is only what was told then. Where noise is shared, the
    others add theirs to the order's task alone, so that tasks which this hospital missed are not told of.
    """
    privacy, registry = site.config.privacy, order.registry
    if privacy.noise == "shared":
        scans = {task: one for task, one in scans.items() if task == order.task}
    known = any(one.patients is not None for one in scans.values())
    multiplier = multiplier_for(privacy.release_epsilon, privacy.delta)
    classes = [spec for task in scans for spec in registry.tasks[task].classes]
    unit: Unit = "patient" if known else "scan"
    # A patient may have scans of several tasks, and each of them is released with noise of its own.
    steps = len(scans) if known else 1
    entry = entry_of(site, order, "training", classes, unit=unit, multiplier=multiplier, steps=steps)
    if not scans and site.ledger.answered(entry.order, entry.experiment) is None:
        if privacy.noise == "shared":
            raise PrivacyError(f"{order}: this hospital has told of these scans before and adds no noise to a sum")
        return Report(site.name)

    def make() -> Weights:
        cortex = site.method.network(order.weights, site.config.cortex)
        generator, seen = secret_generator(), registry.seen(order.task)
        drawn = multiplier * noise_share(site.config)
        parts = []
        for task, one in scans.items():
            groups = None if one.patients is None else torch.from_numpy(one.patients)
            exact = statistics(extract_features(cortex, one.images), torch.from_numpy(one.labels), seen, groups)
            parts.append(released(exact, registry.numbers(task), drawn, generator))
        return {name: torch.stack([part[name] for part in parts]).sum(0) for name in parts[0]}

    told = once(site, order, entry, make)
    # The number of scans is what the release says it is; sums over it add up again by examples. Of shared noise,
    # which may be small, a rounded number would tell what the sum of all hides: there every hospital has one.
    examples = 1 if privacy.noise == "shared" else max(1, round(float(told[COUNTS].sum())))
    return Report(site.name, examples, weights={name: tensor / examples for name, tensor in told.items()})


def tell_update(
    site: Site, order: Order, answer: Answer, samples: Scans, sampling: Sampling, learn: Callable[[Cortex], None]
) -> Report:
    """Tell what DP-SGD made of the shared network; the training is entered first.

    Args:
        site, order: of the phase.
        answer: which tensors are told.
        samples: that it learns from, of all tasks so far; each depends on one scan alone.
        sampling: how they are drawn.
        learn: trains the network in place.
    """
    privacy, registry = site.config.privacy, order.registry
    classes = [registry.classes[number] for number in np.unique(samples.labels).tolist()]
    cost = {"unit": "scan", "multiplier": privacy.noise_multiplier, "rate": sampling.rate, "steps": sampling.steps}
    entry = entry_of(site, order, "training", classes, **cost)

    def make() -> Weights:
        cortex = site.method.network(order.weights, site.config.cortex)
        learn(cortex)
        return answer.tensors(site.method.trainable(cortex.weights()))

    # Every hospital weighs as much: how many samples it has is nobody's business.
    return Report(site.name, 1, weights=once(site, order, entry, make))


def tell_counts(site: Site, order: Order) -> Report:
    """Tell how many test scans of each class are taken for which, with noise; no scores, no sizes.

    Where patients are known, it is patients that are counted, each with the mean over their scans. Some counts may be
    below zero: the server settles them once they are summed (`dp.counts`).
    """
    privacy, registry = site.config.privacy, order.registry
    seen = registry.seen(order.task)
    scans = [site.evaluated(registry, task) for task in range(order.task + 1)]
    known = any(one.patients is not None for one in scans)
    # A patient may have scans of several tasks: as many counts, with noise that makes them cost as much as one. Where
    # noise is shared, others draw no more for this hospital's patients, and they cost what they cost.
    unit: Unit = "patient" if known else "scan"
    steps = len(scans) if known else 1
    more = math.sqrt(steps) if privacy.noise == "each" else 1.0
    multiplier = multiplier_for(privacy.figures_epsilon, privacy.delta) * more
    classes = registry.classes[:seen]
    entry = entry_of(site, order, "test", classes, unit=unit, multiplier=multiplier, steps=steps)

    def make() -> Weights:
        shared = {name: tensor for name, tensor in order.weights.items() if not name.startswith(MOMENTS)}
        cortex = site.method.network(shared, site.config.cortex)
        counts = np.zeros((seen, seen))
        for one in scans:
            predicted = site.method.answer(cortex, one.images, site.config).logits.argmax(1)
            np.add.at(counts, (one.labels, predicted), shares_of(one.patients, len(one)))
        noisy = noisy_counts(counts, count_deviation(site.config, entry.multiplier), secret_generator())
        return {CONFUSION: torch.from_numpy(noisy)}

    confusion = once(site, order, entry, make)[CONFUSION]
    figures = {CONFUSION: confusion.tolist(), "scores": {}, "storage": {}}
    return Report(site.name, examples=max(0, int(confusion.sum())), figures=figures)
