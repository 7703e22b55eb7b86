"""Every score of a scan's familiarity that a hospital has, and thresholds of each from its reference scans."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np

from braincl_med.cortex.cortex import Cortex, apart, extract_features
from braincl_med.cortex.familiarity import Familiarity
from braincl_med.cortex.gaussians import MOMENTS
from braincl_med.evaluation.continual import Figures
from braincl_med.evaluation.examination import COMBINED, PARTS, Reference
from braincl_med.evaluation.operating import FEWEST, SHARE
from braincl_med.evaluation.rejection import scores_of
from braincl_med.evaluation.strangeness import (
    combined,
    neighbours,
    relative_mahalanobis,
    threshold,
    virtual_logit,
)
from braincl_med.foundation.arrays import Images
from braincl_med.messages.order import Order
from braincl_med.methods.base import Answers
from braincl_med.methods.evaluate import own_familiarity
from braincl_med.methods.phase import Site
from braincl_med.streams.tasks import Scans

SAMPLES_PER_CLASS = 100
"""Of what the method trains on, so many of a class say where features of known scans lie."""

Scores = Mapping[str, Figures]


def few(scans: Scans, per_class: int) -> Scans:
    """The first `per_class` scans of every class."""
    seen: dict[int, int] = {}
    chosen = []
    for place, label in enumerate(scans.labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= per_class:
            chosen.append(place)
    return scans.take(np.array(chosen, np.int64))


@dataclass(frozen=True)
class Judge:
    """Answers scans of a hospital by the shared network, and scores them.

    Attributes:
        site, cortex: who answers, by which network.
        samples: some that the method trains on, None without; and their features.
        features: (n, d) of these.
        familiarity: where features of known scans lie; None without.
        reference: the scores of the scans that decide thresholds; empty without.
        source: what scans these were; None without.
    """

    site: Site
    cortex: Cortex
    samples: Scans | None
    features: Figures | None
    familiarity: Familiarity | None
    reference: Scores = field(default_factory=dict)
    source: Reference | None = None

    @classmethod
    def of(cls, site: Site, order: Order, per_class: int) -> Self:
        """Fit to what this hospital has: samples that the method trains on, and validation scans.

        Args:
            site: the hospital.
            order: with the shared network, and moments of all hospitals' features where they are known.
            per_class: validation scans of a class at most.
        """
        method, registry = site.method, order.registry
        shared, told = apart(order.weights, MOMENTS)
        cortex = method.network(shared, site.config.cortex)
        held = method.samples(site, registry, order.task) if method.facts.all_classes and method.plain else None
        samples = few(held, SAMPLES_PER_CLASS) if held is not None and len(held) else None
        features = None if samples is None else extract_features(cortex, samples.images).double().numpy()
        familiarity = Familiarity.of(told) if told else own_familiarity(cortex, samples, registry.seen(order.task))
        judge = cls(site, cortex, samples, features, familiarity)
        # Scans that are evaluated decide nothing of what they are judged by.
        tasks = range(order.task + 1) if site.config.stream.evaluate == "test" else ()
        none = Scans.none(site.config.stream.size)
        chosen = few(Scans.join([none, *(site.validation(registry, task) for task in tasks)]), per_class)
        source: Literal["validation", "recalls", "training"] = "validation"
        if len(chosen) < FEWEST:
            chosen, source = samples or none, "recalls" if method.recalls else "training"
        if not len(chosen):
            return judge
        answers = judge.answers(chosen.images)
        where = Reference(source=source, scans=len(chosen))
        single = replace(judge, reference=judge.scores(answers), source=where)
        return replace(single, reference=single.scores(answers))  # with the combination, which needs the single ones

    def answers(self, images: Images) -> Answers:
        """What the network says of scans."""
        return self.site.method.answer(self.cortex, images, self.site.config)

    def scores(self, answers: Answers) -> dict[str, Figures]:
        """Every score there is of some scans, by kind."""
        scores = {**scores_of(answers.logits), **answers.scores}
        points = answers.features
        if points is None:
            return scores
        if self.familiarity is not None:
            scores["familiarity"] = self.familiarity.scores(points)
        if self.samples is not None and self.features is not None:
            weight, bias = (tensor.detach().cpu().numpy() for tensor in self.cortex.classifier.parameters())
            scores["relative-mahalanobis"] = relative_mahalanobis(points, self.features, self.samples.labels)
            scores["neighbours"] = neighbours(points, self.features)
            scores["virtual-logit"] = virtual_logit(points, self.features, weight, bias)
        if set(PARTS) <= self.reference.keys() & scores.keys():
            scores[COMBINED] = combined(*(scores[part] for part in PARTS), *(self.reference[part] for part in PARTS))
        return scores

    @property
    def thresholds(self) -> dict[str, float]:
        """By kind of score, below what a scan is set aside."""
        return {kind: threshold(values, SHARE) for kind, values in self.reference.items()}
