"""An examination at a hospital: the shared network looked at closely, beside the schedule of any method.

Where `evaluate` counts after every task, this counts more, of few scans a class and when it is asked for: confidence,
further scores, rough conditions, the spectrum of features. Thresholds come from validation scans, or recalls, never
from the scans that are judged.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from braincl_med.cortex.attention import Attention
from braincl_med.cortex.cortex import Weights, apart
from braincl_med.evaluation.attention import correlations, counted
from braincl_med.evaluation.continual import Figures
from braincl_med.evaluation.examination import (
    ARTEFACT,
    COMBINED,
    MOST_GROUPS,
    PARTS,
    STRENGTHS,
    Confidence,
    Examination,
    Group,
    Rough,
    Spectrum,
    histogram_of,
)
from braincl_med.evaluation.operating import FEWEST
from braincl_med.evaluation.rejection import KNOWN, UNKNOWN, scores_of
from braincl_med.evaluation.strangeness import ranks
from braincl_med.foundation.errors import ConfigError, FederationError
from braincl_med.foundation.groups import COLUMNS
from braincl_med.foundation.seeding import seed_for
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.base import Answers
from braincl_med.methods.judge import Judge, Scores, few
from braincl_med.methods.phase import BEFORE, EXAMINED, Need, Phase, Site
from braincl_med.scans.conditions import ARTEFACTS, CONDITIONS, conditioned, fits, grey, with_artefact
from braincl_med.settings.config import ExperimentConfig
from braincl_med.streams.tasks import Scans

T = TypeVar("T")
Right = npt.NDArray[np.bool_]


def objection_to_examining(config: ExperimentConfig) -> str | None:
    """Why hospitals of an experiment are not asked to examine its network, or None."""
    if config.privacy.mode != "off":
        return f"an examination tells counts that privacy-mode '{config.privacy.mode}' does not bound: it is refused"
    if config.federation.masked:
        return "an examination tells every hospital's own counts, which federation-masking hides: it is refused"
    return None


def _examine(site: Site, order: Order) -> Report:
    """Answer few scans of every class as they are and changed, and count."""
    asked = order.examine
    if asked is None:
        raise FederationError("the order to examine does not say by which temperature, and how many scans of a class")
    sent, before = apart(order.weights, BEFORE)
    judge = Judge.of(site, replace(order, weights=sent), asked.per_class)
    tasks = range(order.task + 1)
    known = few(Scans.join([site.evaluated(order.registry, task) for task in tasks]), asked.per_class)
    answers = judge.answers(known.images)
    right = answers.logits.argmax(1) == known.labels
    groups = {**_unchanged(judge, answers, right), **_strange(judge, order, asked.per_class, known)}
    sure = scores_of(answers.logits / asked.temperature)["max-softmax"]
    limits = judge.thresholds
    examination = Examination(
        temperature=asked.temperature,
        confidence=Confidence(
            right=histogram_of("max-softmax", sure[right]).tolist(),
            wrong=histogram_of("max-softmax", sure[~right]).tolist(),
        ),
        scores=_by_kind(groups, lambda kind, values: histogram_of(kind, values).tolist()),
        set_aside=_by_kind(
            {group: {kind: scores[kind] for kind in limits} for group, scores in groups.items()},
            lambda kind, values: int((values < limits[kind]).sum()),
        ),
        work=_work(groups, judge.reference, limits),
        reference=judge.source,
        conditions=_conditions(judge, known, right, order.registry.seen(order.task), site.config.seed),
        spectrum=_spectrum(answers),
        attention=_attention(judge, before, known),
        patients=patients_of(known, right, site.config.federation.smallest_group),
    )
    return Report(site.name, examples=len(known), figures=examination.model_dump())


def _unchanged(judge: Judge, answers: Answers, right: Right) -> dict[str, Scores]:
    """Scores of the known scans, by whether they are answered rightly."""
    scores = judge.scores(answers)
    return {
        group: {kind: values[members] for kind, values in scores.items()}
        for group, members in zip(KNOWN, (right, ~right), strict=True)
    }


def _strange(judge: Judge, order: Order, per_class: int, known: Scans) -> dict[str, Scores]:
    """Scores of scans that nobody should rely on: of later tasks, of other sets, and with something drawn on them."""
    site, later = judge.site, range(order.task + 1, len(order.registry.tasks))
    near = [few(site.evaluated(order.registry, task), per_class).images for task in later]
    far = [images[: per_class * len(order.registry.classes)] for images in site.unknown(order.registry)]
    parts = {group: np.concatenate(told) for group, told in zip(UNKNOWN, (near, far), strict=True) if told}
    parts |= {ARTEFACT + name: with_artefact(known.images, name) for name in ARTEFACTS}
    return {group: judge.scores(judge.answers(images)) for group, images in parts.items()}


def _by_kind(groups: Mapping[str, Scores], count: Callable[[str, Figures], T]) -> dict[str, dict[str, T]]:
    """Something counted of every group's scores, by kind of score and group."""
    told: dict[str, dict[str, T]] = {}
    for group, scores in groups.items():
        for kind, values in scores.items():
            told.setdefault(kind, {})[group] = count(kind, values)
    return told


def _work(groups: Mapping[str, Scores], reference: Scores, limits: Mapping[str, float]) -> dict[str, dict[str, int]]:
    """Which part of the combined score ranked the scans lower that it sets aside; the first where both are alike."""
    if COMBINED not in limits:
        return {}
    told: dict[str, dict[str, int]] = {part: {} for part in PARTS}
    for group, scores in groups.items():
        first, second = (ranks(scores[part], reference[part]) for part in PARTS)
        aside = scores[COMBINED] < limits[COMBINED]
        told[PARTS[0]][group] = int((aside & (first <= second)).sum())
        told[PARTS[1]][group] = int((aside & (first > second)).sum())
    return told


def _conditions(judge: Judge, known: Scans, right: Right, classes: int, seed: int) -> dict[str, Rough]:
    """Right answers by class, under every condition that can befall any of the scans."""
    told, greys = {}, grey(known.images)

    def counted(labels: npt.NDArray[np.int64]) -> list[int]:
        counts: list[int] = np.bincount(labels, minlength=classes).tolist()
        return counts

    for name in CONDITIONS:
        suited = known.take(fits(name, greys))
        if not len(suited):
            continue
        rows = []
        for strength in range(1, STRENGTHS + 1):
            changed = conditioned(suited.images, name, strength, seed_for(seed, "examine", name, strength))
            rows.append(counted(suited.labels[judge.answers(changed).logits.argmax(1) == suited.labels]))
        clean = counted(suited.labels[right[fits(name, greys)]])
        told[name] = Rough(scans=counted(suited.labels), clean=clean, right=rows)
    return told


def _spectrum(answers: Answers) -> Spectrum | None:
    """Eigenvalues of the covariance of features; None of few scans, of which they would tell single ones."""
    points = answers.features
    if points is None or len(points) < FEWEST:
        return None
    values = np.linalg.eigvalsh(np.cov(points.astype(np.float64), rowvar=False, bias=True))[::-1]
    return Spectrum(values=np.maximum(values, 0).tolist(), scans=len(points))


def _attention(judge: Judge, before: Weights, known: Scans) -> list[list[int]]:
    """By class known before the last task, how the maps of its scans by the former network and this one correlate."""
    method, config = judge.site.method, judge.site.config
    if not (before and method.plain):
        return []
    former = method.network({name.removeprefix(BEFORE): tensor for name, tensor in before.items()}, config.cortex)
    try:
        then, now = (Attention(cortex, config.stream.size) for cortex in (former, judge.cortex))
    except ConfigError:  # of a transformer, which has no maps
        return []
    told = []
    for number in range(former.classifier.out_features):
        images = known.images[known.labels == number]
        maps = [seen.of_images(images, number).numpy() for seen in (then, now)] if len(images) else []
        told.append(counted(correlations(*maps) if maps else np.empty(0)).tolist())
    return told


def patients_of(known: Scans, right: Right, smallest: int) -> dict[str, Group]:
    """Right answers by group of patients, of the largest groups and of none with fewer scans here than `smallest`.

    Where all scans of which no group of a kind is told are fewer, the smallest group is not told either: their
    answers would follow from the sum of all.
    """
    if known.groups is None:
        return {}
    told: dict[str, list[bool]] = {}
    for groups, answer in zip(known.groups, right.tolist(), strict=True):
        for group in groups:
            told.setdefault(group, []).append(answer)
    largest = sorted(told, key=lambda group: (-len(told[group]), group))[:MOST_GROUPS]
    enough = [group for group in largest if len(told[group]) >= smallest]
    for kind in COLUMNS:
        mine = [group for group in enough if group.startswith(f"{kind}: ")]
        while mine and 0 < len(known) - sum(len(told[group]) for group in mine) < smallest:
            enough.remove(mine.pop())
    return {group: Group(scans=len(told[group]), right=sum(told[group])) for group in sorted(enough)}


EXAMINE = Phase("examine", _examine, EXAMINED, Need.TWO_NETWORKS)
