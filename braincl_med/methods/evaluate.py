"""Evaluation at a hospital: raw test or validation scans counted by true and predicted class, and their scores.

Counts, histograms and sums over known scans leave the hospital, no score of a single scan.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from braincl_med.cortex.cortex import Cortex, apart, extract_features
from braincl_med.cortex.familiarity import Familiarity
from braincl_med.cortex.gaussians import MOMENTS, moments
from braincl_med.evaluation.continual import Figures
from braincl_med.evaluation.operating import SCORES, Known, Score, Source, enough
from braincl_med.evaluation.rejection import KNOWN, UNKNOWN, histogram, scores_of
from braincl_med.foundation.arrays import Images, Labels
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.base import Answers
from braincl_med.methods.exemplars import exemplar_count
from braincl_med.methods.phase import FIGURES, Need, Phase, Site
from braincl_med.methods.private import tell_counts
from braincl_med.streams.tasks import Scans

Scores = Mapping[str, Figures]


def _evaluate(site: Site, order: Order) -> Report:
    """Count answers to all known scans, and score known and unknown ones; say what lies at rest.

    Under differential privacy only noisy counts are told.
    """
    if site.config.privacy.mode != "off":
        return tell_counts(site, order)
    method, registry = site.method, order.registry
    shared, told = apart(order.weights, MOMENTS)
    cortex = method.network(shared, site.config.cortex)
    seen = registry.seen(order.task)
    confusion = np.zeros((seen, seen), np.int64)
    groups: dict[str, list[Scores]] = {}
    evaluated: list[tuple[Labels, Answers]] = []
    samples = site.method.samples(site, registry, order.task) if site.method.facts.all_classes else None
    familiarity = Familiarity.of(told) if told else own_familiarity(cortex, samples, seen)
    for task in range(len(registry.tasks)):
        scans = site.evaluated(registry, task)
        answers = _answered(site, cortex, familiarity, scans.images)
        if task > order.task:
            groups.setdefault(UNKNOWN[0], []).append(answers.scores)
            continue
        evaluated.append((scans.labels, answers))
        predicted = answers.logits.argmax(1)
        np.add.at(confusion, (scans.labels, predicted), 1)
        right = predicted == scans.labels
        for group, members in zip(KNOWN, (right, ~right), strict=True):
            scores = {kind: values[members] for kind, values in answers.scores.items()}
            groups.setdefault(group, []).append(scores)
    for images in site.unknown(registry):
        groups.setdefault(UNKNOWN[1], []).append(_answered(site, cortex, familiarity, images).scores)
    storage = {**site.vault.sizes(), **site.kept.sizes(), **method.extra_bytes(shared)}
    storage["records"] += exemplar_count(site.kept)
    figures: dict[str, Any] = {"confusion": confusion.tolist(), "scores": _histograms(groups), "storage": storage}
    if method.plain:
        figures["known"] = _known(site, order, cortex, familiarity if told else None, evaluated, samples)
    return Report(site.name, examples=int(confusion.sum()), figures=figures)


def _known(
    site: Site,
    order: Order,
    cortex: Cortex,
    familiarity: Familiarity | None,
    evaluated: Sequence[tuple[Labels, Answers]],
    samples: Scans | None,
) -> list[dict[str, Any]]:
    """Sums over known scans, from which the server takes the network's operating point.

    Validation scans of all learned tasks, and beside them what the method trains on where they are not `enough`.
    Their scores must be such that the network has wherever it goes: the classifier's own, and familiarity only by
    moments that all hospitals told.
    """
    source: Source = "evaluated" if site.config.stream.evaluate == "val" else "validation"
    held_out = list(evaluated)
    if source == "validation":
        held = [site.validation(order.registry, task) for task in range(order.task + 1)]
        held_out = [(scans.labels, _answered(site, cortex, familiarity, scans.images)) for scans in held]
    scores = SCORES if familiarity is not None else ("max-softmax",)
    told = [_summed(source, score, held_out) for score in scores]
    classes = len(told[0].classes)
    if samples is not None and not enough(told[0].classes, np.bincount(samples.labels, minlength=classes)):
        answers = _answered(site, cortex, familiarity, samples.images)
        kind: Source = "recalls" if site.method.recalls else "training"
        told += [_summed(kind, score, [(samples.labels, answers)]) for score in scores]
    return [known.as_figure() for known in told if known.classes.any()]


def _summed(source: Source, score: Score, answered: Sequence[tuple[Labels, Answers]]) -> Known:
    labels = np.concatenate([labels for labels, _ in answered])
    logits = np.concatenate([answers.logits for _, answers in answered])
    scores = np.concatenate([answers.scores[score] for _, answers in answered])
    return Known.of(source, score, logits, scores, labels)


def _answered(site: Site, cortex: Cortex, familiarity: Familiarity | None, images: Images) -> Answers:
    """Logits of scans and every score there is of them."""
    answers = site.method.answer(cortex, images, site.config)
    scores = {**scores_of(answers.logits), **answers.scores}
    if familiarity is not None and answers.features is not None:
        scores["familiarity"] = familiarity.scores(answers.features)
    return Answers(answers.logits, scores)


def own_familiarity(cortex: Cortex, samples: Scans | None, classes: int) -> Familiarity | None:
    """Where the features of this hospital's samples lie.

    None for a hospital without samples and for a method that has none of every class. The samples are those that
    the method trains on, so BrainCL's are recalled.
    """
    if samples is None or not len(samples):
        return None
    features, labels = extract_features(cortex, samples.images), torch.from_numpy(samples.labels)
    return Familiarity.of(moments(features, labels, classes))


def _histograms(groups: Mapping[str, list[Scores]]) -> dict[str, dict[str, list[int]]]:
    """Counts over the bins of each kind of score, by group of scans."""
    counts: dict[str, dict[str, list[int]]] = {}
    for group, parts in groups.items():
        for kind in parts[0]:
            together = np.concatenate([part[kind] for part in parts])
            counts.setdefault(kind, {})[group] = histogram(kind, together).tolist()
    return counts


EVALUATE = Phase(
    "evaluate", _evaluate, FIGURES, Need.NETWORK_AND_MOMENTS, bounded=frozenset({"statistics", "updates"})
)
