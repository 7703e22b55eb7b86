"""A network's operating point: what its logits are divided by, and below which score a scan is set aside.

    hospital: known scans ─► Σ −log p at each temperature, histograms of scores, scans by class ─┐ add up
    server:   the temperature of least loss, thresholds that set a share of known scans aside   ◄┘

Familiarity finds scans that resemble nothing, the largest softmax finds mistakes, and each misses what the other
finds (docs/evaluation.md): a network that carries familiarity sets aside what is low in either, half of the share by
each.

One temperature for all logits changes no answer, only how sure it sounds (Guo et al. 2017). As everywhere in
evaluation no figure of a single scan leaves a hospital.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from braincl_med.evaluation.continual import Figures
from braincl_med.evaluation.rejection import EDGES, histogram, threshold_at
from braincl_med.evaluation.tally import Counts

TEMPERATURES: Figures = 2.0 ** (np.arange(-32, 49) / 8)
"""Those at which losses are added up: a sixteenth to 64, each a twelfth above the one before."""
SHARE = 0.05
"""Of known scans, those that are set aside."""
LARGEST_LOSS = float(-np.log(1e-30))
"""Of one scan, 69.08: a true class that is less probable counts as 1e-30, so that no scan outweighs many."""
FEWEST = 20
"""Held-out scans that alone may decide: of fewer, `SHARE` is less than one scan."""

Source = Literal["validation", "evaluated", "recalls", "training"]
"""Validation scans; the same where they were evaluated too, so that their accuracy is known; what the memory recalls;
raw scans that the network was trained on."""
SOURCES: tuple[Source, ...] = get_args(Source)
HELD_OUT = ("validation", "evaluated")
IN_WORDS: dict[Source | Literal["mixed"], str] = {
    "validation": "validation scans",
    "evaluated": "validation scans, which the recorded accuracy counts too",
    "recalls": "scans recalled from memory, which the network was trained on (it had no validation scans)",
    "training": "scans that the network was trained on (it had no validation scans)",
    "mixed": (
        "scans of several kinds, also such that the network was trained on (validation scans were too few, or not of "
        "every class)"
    ),
}
Score = Literal["familiarity", "max-softmax"]
"""By what scans are set aside: how like they are to what is remembered, or how sure the classifier is."""
SCORES: tuple[Score, ...] = get_args(Score)

Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


@dataclass(frozen=True)
class Known:
    """Sums over some known scans.

    Attributes:
        source: what scans they are.
        score: which score the histogram is of.
        losses: (temperatures,) the sum of −log p of the true class, of each scan at most `LARGEST_LOSS`.
        histogram: counts over the bins of `EDGES[score]`.
        classes: (classes,) scans by class number.
    """

    source: Source
    score: Score
    losses: Figures
    histogram: Counts
    classes: Counts

    @classmethod
    def of(
        cls,
        source: Source,
        score: Score,
        logits: npt.NDArray[np.floating],
        scores: Figures,
        labels: npt.NDArray[np.int64],
    ) -> "Known":
        """Add up over scans with logits (n, classes), scores (n,) of kind `score` and class numbers (n,)."""
        classes = np.bincount(labels, minlength=logits.shape[1]).astype(np.int64)
        return cls(source, score, losses(logits, labels), histogram(score, scores), classes)

    def as_figure(self) -> dict[str, Any]:
        """As a report tells it."""
        return {
            "source": self.source,
            "score": self.score,
            "losses": self.losses.tolist(),
            "histogram": self.histogram.tolist(),
            "classes": self.classes.tolist(),
        }

    @classmethod
    def told(cls, figure: Mapping[str, Any]) -> "Known":
        """The inverse of `as_figure`, of a report without objection."""
        arrays = {key: np.array(figure[key], np.int64) for key in ("histogram", "classes")}
        return cls(figure["source"], figure["score"], np.array(figure["losses"], np.float64), **arrays)


def losses(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.int64]) -> Figures:
    """(temperatures,) the sum over scans of −log softmax(logits / T) at the true class, at most `LARGEST_LOSS` each.

    Args:
        logits: (n, classes).
        labels: (n,) class numbers below `classes`.
    """
    values = logits.astype(np.float64)
    values = values - values.max(axis=1, initial=-np.inf, keepdims=True) if len(values) else values
    sums = []
    for temperature in TEMPERATURES:
        scaled = values / temperature
        true = scaled[np.arange(len(labels)), labels]
        sums.append(float(np.minimum(np.log(np.exp(scaled).sum(1)) - true, LARGEST_LOSS).sum()))
    return np.array(sums)


def best_temperature(summed: Figures) -> float:
    """The temperature of least loss, between grid points by a parabola over log T.

    1 where the least is the grid's lowest: then every answer was right, and no scan says how sure is too sure.

    Args:
        summed: (temperatures,) losses of at least one scan.
    """
    at = int(np.argmin(summed))
    if at == 0:
        return 1.0
    if at == len(summed) - 1:
        return float(TEMPERATURES[at])
    before, least, after = summed[at - 1 : at + 2]
    bend = before - 2 * least + after
    shift = 0.5 * (before - after) / bend if bend > 0 else 0.0
    step = np.log(TEMPERATURES[1] / TEMPERATURES[0])
    return float(TEMPERATURES[at] * np.exp(shift * step))


class OperatingPoint(BaseModel):
    """How a network's logits become answers.

    Attributes:
        temperature: what logits are divided by before they become probabilities.
        threshold: a scan whose score lies below is set aside for a person to read.
        sure: beside familiarity, the largest softmax probability before calibration below which a scan is set aside
            too; None where the classifier's is the only score, or hospitals told of familiarity alone.
        share: of known scans, those that were to be set aside at most.
        set_aside: the share of the scans it was measured on that it does set aside; at most so many of two scores.
        score: the kind of score, larger for more familiar scans.
        source: what scans it was measured on; "mixed" where not all were of one kind.
        counts: how many of them each class had, by class number.
        hospitals: how many had such scans.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Twice as far as the grid reaches: what lies beyond was not measured, and divides logits to nothing or infinity.
    temperature: float = Field(ge=float(TEMPERATURES[0]) / 2, le=2 * float(TEMPERATURES[-1]), allow_inf_nan=False)
    threshold: float = Field(allow_inf_nan=False)
    sure: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    share: Share
    set_aside: Share
    score: Score
    source: Source | Literal["mixed"]
    counts: tuple[Annotated[int, Field(ge=0, le=2**53, strict=True)], ...]
    hospitals: int = Field(ge=1, le=2**53, strict=True)

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not EDGES[self.score][0] <= self.threshold <= EDGES[self.score][-1]:
            raise ValueError(f"no {self.score} score is {self.threshold}")
        if self.sure is not None and self.score == "max-softmax":
            raise ValueError("the largest softmax has two thresholds")
        return self

    @property
    def scans(self) -> int:
        """How many scans it was measured on."""
        return sum(self.counts)

    @property
    def classes(self) -> int:
        """How many classes had any of them."""
        return sum(count > 0 for count in self.counts)

    def __str__(self) -> str:
        return (
            f"temperature {self.temperature:.3g} and {self._thresholds} were "
            f"measured on {self.scans:,} {IN_WORDS[self.source]}, of {self.classes} of {len(self.counts)} classes at "
            f"{self.hospitals} {'hospital' if self.hospitals == 1 else 'hospitals'}; "
            f"{'' if self.sure is None else 'at most '}{100 * self.set_aside:.1f} % of "
            f"these are set aside (at most {100 * self.share:.3g} % were to be)"
        )

    @property
    def _thresholds(self) -> str:
        if self.sure is None:
            return f"threshold {self.threshold:.4g} of the {self.score} score"
        return f"thresholds {self.threshold:.4g} of the {self.score} score and {self.sure:.3g} of the largest softmax"


def enough(held_out: Counts, present: Counts) -> bool:
    """Whether held-out scans decide alone: there are `FEWEST`, and some of every class of which there are any scans.

    Args:
        held_out: (classes,) scans by class number.
        present: (classes,) all scans that are told of, by class number.
    """
    return bool(held_out.sum() >= FEWEST and (held_out[present > 0] > 0).all())


def join(told: Sequence[Sequence[Known]], score: Score, share: float = SHARE) -> OperatingPoint | None:
    """The operating point that all hospitals' sums determine; None where there is no known scan.

    Held-out scans decide alone where they are `enough`; otherwise all scans do. Beside familiarity the classifier
    sets half of the share aside, if hospitals tell of it.

    Args:
        told: of each hospital, the sums over its scans of each source and score, all of as many classes.
        score: by which scans are to be set aside; the classifier's own, or familiarity and it.
        share: of known scans, to be set aside at most.
    """
    sure = _by(told, "max-softmax", share / 2) if score == "familiarity" else None
    if sure is None:
        return _by(told, score, share)
    familiar = _by(told, score, share / 2)
    return familiar and familiar.model_copy(
        update={"sure": sure.threshold, "share": share, "set_aside": familiar.set_aside + sure.set_aside}
    )


def _by(told: Sequence[Sequence[Known]], score: Score, share: float) -> OperatingPoint | None:
    """The operating point of one score; what is told of another does not count."""
    usable = [[known for known in one if known.score == score and known.histogram.sum()] for one in told]
    held_out = [[known for known in one if known.source in HELD_OUT] for one in usable]
    if not any(usable):
        return None
    decide = any(held_out) and enough(_by_class(held_out), _by_class(usable))
    return _joined([one for one in (held_out if decide else usable) if one], score, share)


def _by_class(told: Sequence[Sequence[Known]]) -> Counts:
    counts: Counts = np.sum([known.classes for known in chain(*told)], axis=0)
    return counts


def _joined(chosen: Sequence[Sequence[Known]], score: Score, share: float) -> OperatingPoint:
    sums = list(chain(*chosen))
    together = np.sum([known.histogram for known in sums], axis=0)
    first = threshold_at(together, 1 - share)
    sources = {known.source for known in sums}
    # Where some evaluated theirs too, the whole was looked at.
    alike = len(sources) == 1 or sources <= set(HELD_OUT)
    return OperatingPoint(
        temperature=best_temperature(np.sum([known.losses for known in sums], axis=0)),
        threshold=float(EDGES[score][first]),
        share=share,
        set_aside=float(together[:first].sum() / together.sum()),
        score=score,
        source=max(sources, key=SOURCES.index) if alike else "mixed",
        counts=tuple(int(n) for n in _by_class(chosen)),
        hospitals=len(chosen),
    )
