"""What one hospital tells when it examines the shared network: counts, histograms and sums, of no single scan.

    confidence   of right and wrong answers, at the operating point's temperature       ─► calibration
    scores       by kind of score and group of scans                                     ─► AUROC
    set_aside    by kind and group, below a threshold that reference scans alone decided ─► what is caught
    conditions   right answers by corruption, strength and class                         ─► robustness
    spectrum     eigenvalues of the covariance of features                               ─► effective rank
    attention    by class, how the maps of scans correlate with those before the task    ─► attention that stayed
    patients     right answers by group of age, sex and device                           ─► gaps between groups

Examinations of hospitals add up (`joined`); strict, with limits on everything, as all that hospitals say.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from braincl_med.evaluation import attention
from braincl_med.evaluation.continual import Figures
from braincl_med.evaluation.rejection import EDGES, KNOWN, UNKNOWN
from braincl_med.evaluation.tally import Counts
from braincl_med.foundation.groups import COLUMNS, NAME, is_group

MOST = 10**8
"""Scans of a group that one hospital may tell of."""
LARGEST_VARIANCE = 1e24
"""Of features, as `cortex.gaussians` lets them be at most 1e12."""
STRENGTHS = 5
MOST_GROUPS = 100
"""Of patients."""
COMBINED = "combined"
ARTEFACT = "artefact-"
"""Begins the names of groups of known scans on which something was drawn."""
ARTEFACTS = tuple(ARTEFACT + name for name in ("text", "ruler", "corner"))
GROUPS = (*KNOWN, *UNKNOWN, *ARTEFACTS)
_BOTH_SIDES = np.logspace(-1, 6, 251)
BINS: dict[str, Figures] = {
    **EDGES,
    "relative-mahalanobis": np.concatenate([-_BOTH_SIDES[::-1], _BOTH_SIDES]),
    "neighbours": np.concatenate([-np.logspace(np.log10(2), -6, 401), [0]]),
    "virtual-logit": np.concatenate([-np.logspace(6, 2, 101)[:-1], np.linspace(-100, 100, 401)]),
    COMBINED: np.linspace(0, 1, 401),
}
"""Bin edges of each kind of score; values outside fall into the first or last bin."""
PARTS = ("max-softmax", "familiarity")
"""Of which scores the combined one is made."""

Count = Annotated[int, Field(ge=0, le=MOST, strict=True)]
Row = Annotated[list[Count], Field(fail_fast=True)]
Variance = Annotated[float, Field(ge=0, le=LARGEST_VARIANCE, allow_inf_nan=False, strict=True)]
Named = Annotated[str, Field(pattern=r"^[a-z-]{1,40}$")]
Table = Annotated[dict[Named, dict[Named, Count]], Field(max_length=len(BINS))]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Confidence(_Part):
    """Counts over the bins of maximum softmax, of right and of wrong answers."""

    right: Row
    wrong: Row


class Reference(_Part):
    """The scans that decided thresholds, and how many there were."""

    source: Literal["validation", "recalls", "training"]
    scans: Count


class Rough(_Part):
    """Answers under one condition.

    Attributes:
        scans: (classes,) the scans that it can befall.
        clean: (classes,) right answers to these as they are.
        right: (5, classes) right answers at each strength.
    """

    scans: Row
    clean: Row
    right: Annotated[list[Row], Field(min_length=STRENGTHS, max_length=STRENGTHS)]


class Spectrum(_Part):
    """Eigenvalues of the covariance of features of known scans, largest first, and of how many scans."""

    values: Annotated[list[Variance], Field(max_length=1 << 14, fail_fast=True)]
    scans: Annotated[int, Field(ge=1, le=MOST, strict=True)]


class Group(_Part):
    """Answers to the known scans of one group of patients."""

    scans: Count
    right: Count


class Examination(_Part):
    """One hospital's examination, or the sum of several.

    Attributes:
        temperature: that the server named, at which confidence is counted.
        confidence: of known scans.
        scores: counts over `BINS`, by kind of score and group.
        set_aside: scans whose score lies below its threshold, by kind of score and group.
        work: of those that the combined score sets aside, which of `PARTS` ranked them lower, by group.
        reference: that decided the thresholds; None where there was none, and then nothing is set aside.
        conditions: by name.
        spectrum: None where the method has no features or there were too few scans.
        attention: (classes known before the last task, 20) counts of their scans over `attention.EDGES`, whose
            maps were drawn by the networks before and after it; empty where the former is not kept or has no maps.
        patients: by group (`foundation.groups`), of as many scans as may be told of; empty where nobody knows any.
    """

    temperature: Annotated[float, Field(gt=0, le=128, allow_inf_nan=False)]
    confidence: Confidence
    scores: Annotated[dict[Named, dict[Named, Row]], Field(max_length=len(BINS))]
    set_aside: Table = {}
    work: Table = {}
    reference: Reference | None = None
    conditions: Annotated[dict[Named, Rough], Field(max_length=50)] = {}
    spectrum: Spectrum | None = None
    attention: Annotated[list[Row], Field(max_length=10_000, fail_fast=True)] = []
    patients: Annotated[dict[Annotated[str, Field(pattern=NAME)], Group], Field(max_length=MOST_GROUPS)] = {}

    @property
    def scans(self) -> int:
        """Known scans that were answered."""
        return sum(self.confidence.right) + sum(self.confidence.wrong)

    def objection(self, classes: int) -> str | None:
        """Why no hospital can have counted this, or None.

        Args:
            classes: known so far.
        """
        fine = len(EDGES["max-softmax"]) - 1
        if (len(self.confidence.right), len(self.confidence.wrong)) != (fine, fine):
            return f"its histograms of confidence have not {fine} bins"
        for kind, groups in self.scores.items():
            if kind not in BINS or not groups.keys() <= set(GROUPS):
                return f"it tells '{kind}' of {', '.join(groups)[:80]}, which is no score of known groups"
            if any(len(row) != len(BINS[kind]) - 1 for row in groups.values()):
                return f"its histograms of '{kind}' have not {len(BINS[kind]) - 1} bins"
        if len(self.attention) > classes or any(len(row) != len(attention.EDGES) - 1 for row in self.attention):
            return f"its attention is not of {classes} classes at most, in {len(attention.EDGES) - 1} bins"
        if sum(map(sum, self.attention)) > self.scans:
            return "it tells of the attention to more scans than it answered"
        return self._objection_to_patients() or self._objection_to_shares() or self._objection_to_conditions(classes)

    def _objection_to_patients(self) -> str | None:
        if not all(map(is_group, self.patients)):
            return "it tells of a group of patients that is none"
        for kind in COLUMNS:
            mine = [one for name, one in self.patients.items() if name.startswith(f"{kind}: ")]
            scans, right = sum(one.scans for one in mine), sum(one.right for one in mine)
            if any(one.right > one.scans for one in mine) or scans > self.scans or right > sum(self.confidence.right):
                return f"by {kind} it tells of more scans of a group of patients, or right ones, than it answered"
        return None

    def _objection_to_shares(self) -> str | None:
        for kind, groups in self.set_aside.items():
            told = self.scores.get(kind, {})
            if any(scans > sum(told.get(group, ())) for group, scans in groups.items()):
                return f"it sets more scans aside by '{kind}' than it scored"
        if not self.work.keys() <= set(PARTS):
            return "it tells of the work of other scores than the combined one's"
        of = self.set_aside.get(COMBINED, {})
        worked = {group for part in self.work.values() for group in part}
        if any(sum(part.get(group, 0) for part in self.work.values()) > of.get(group, 0) for group in worked):
            return "the parts of its combined score set more scans aside than the whole"
        if (self.set_aside or self.work) and self.reference is None:
            return "it sets scans aside without reference scans"
        return None

    def _objection_to_conditions(self, classes: int) -> str | None:
        for name, rough in self.conditions.items():
            rows = (rough.scans, rough.clean, *rough.right)
            if any(len(row) != classes for row in rows):
                return f"under '{name}' it counts not {classes} classes"
            if any(right > all_ for row in rows for right, all_ in zip(row, rough.scans, strict=True)):
                return f"under '{name}' more answers are right than there are scans"
        return None


def joined(told: Sequence[Examination]) -> Examination:
    """The sum over hospitals, at least one; a spectrum is the mean of theirs, weighted by scans."""
    sources = {one.reference.source for one in told if one.reference is not None}
    reference = None
    if sources:
        worst = max(sources, key=("validation", "recalls", "training").index)
        reference = Reference(source=worst, scans=sum(one.reference.scans for one in told if one.reference))
    names = sorted({name for one in told for name in one.conditions})
    return Examination(
        temperature=told[0].temperature,
        confidence=Confidence(
            right=_rows([one.confidence.right for one in told]), wrong=_rows([one.confidence.wrong for one in told])
        ),
        scores={
            kind: {group: _rows([one.scores.get(kind, {}).get(group, []) for one in told]) for group in groups}
            for kind, groups in _names([one.scores for one in told]).items()
        },
        set_aside=_tables([one.set_aside for one in told]),
        work=_tables([one.work for one in told]),
        reference=reference,
        conditions={name: _rough([one.conditions[name] for one in told if name in one.conditions]) for name in names},
        spectrum=_spectrum([one.spectrum for one in told if one.spectrum is not None]),
        attention=_summed([one.attention for one in told if one.attention]),
        patients=_groups([one.patients for one in told]),
    )


def histogram_of(kind: str, values: Figures) -> Counts:
    """Counts of `values` over the bins of score `kind`."""
    edges = BINS[kind]
    return np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)[0].astype(np.int64)


def effective_rank(values: Figures) -> float:
    """Exp of the entropy of the eigenvalues' shares (Roy & Vetterli 2007); NaN where all are zero."""
    total = float(np.sum(values))
    if not total > 0:
        return float("nan")
    shares = np.asarray(values, np.float64) / total
    present = shares[shares > 0]
    return float(np.exp(-(present * np.log(present)).sum()))


def _rows(rows: Sequence[Sequence[int]]) -> list[int]:
    """The sum of rows, of which an empty one is none."""
    longest = max(len(row) for row in rows)
    summed: Counts = np.array([row if row else [0] * longest for row in rows], np.int64).sum(0)
    return [int(count) for count in summed]


def _summed(tables: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """The sum, class by class, of tables of equal width."""
    classes = max(map(len, tables), default=0)
    return [_rows([table[number] for table in tables if number < len(table)]) for number in range(classes)]


def _groups(told: Sequence[dict[str, Group]]) -> dict[str, Group]:
    names = sorted({name for one in told for name in one})
    parts = {name: [one[name] for one in told if name in one] for name in names}
    return {
        name: Group(scans=sum(one.scans for one in mine), right=sum(one.right for one in mine))
        for name, mine in parts.items()
    }


def _names(tables: Sequence[dict[str, dict[str, list[int]]]]) -> dict[str, list[str]]:
    kinds = sorted({kind for table in tables for kind in table})
    return {kind: sorted({group for table in tables for group in table.get(kind, {})}) for kind in kinds}


def _tables(tables: Sequence[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for table in tables:
        for kind, groups in table.items():
            for group, scans in groups.items():
                row = found.setdefault(kind, {})
                row[group] = row.get(group, 0) + scans
    return found


def _rough(told: Sequence[Rough]) -> Rough:
    return Rough(
        scans=_rows([one.scans for one in told]),
        clean=_rows([one.clean for one in told]),
        right=[_rows([one.right[place] for one in told]) for place in range(STRENGTHS)],
    )


def _spectrum(told: Sequence[Spectrum]) -> Spectrum | None:
    if not told:
        return None
    scans = sum(one.scans for one in told)
    values = np.sum([np.multiply(one.values, one.scans / scans) for one in told], axis=0)
    return Spectrum(values=[float(value) for value in values], scans=scans)
