"""What follows from hospitals' examinations of a network: every figure that a page, a table or JSON tells of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from braincl_med.evaluation.attention import EDGES, stayed
from braincl_med.evaluation.calibration import Referral, Reliability, calibration_error, referrals, reliability
from braincl_med.evaluation.examination import COMBINED, Examination, effective_rank, joined
from braincl_med.evaluation.intervals import auc_interval, wilson
from braincl_med.evaluation.rejection import KNOWN, auroc
from braincl_med.records.store import RunStore
from braincl_med.records.summary import kebab

DEFAULT_SCORE = COMBINED
"""By which scans are to be set aside where it could be computed."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Separation:
    """How well a score tells two groups apart: the area under the ROC curve.

    Attributes:
        score: its kind.
        group: what is told apart: `known-wrong` from right answers, any other group from all known scans.
        auroc, interval: the probability that a known scan scores higher, and Newcombe's interval of it.
        known, scans: of both sides.
    """

    score: str
    group: str
    auroc: float
    interval: Interval
    known: int
    scans: int


@dataclass(frozen=True)
class SetAside:
    """How many scans of a group a score sets aside, by thresholds that other scans decided.

    Attributes:
        score, group: as in `Separation`, and `known-correct`, of which few should be.
        aside, scans: so many of so many.
        share, interval: and Wilson's interval.
        by_softmax, by_familiarity: of the combined score's, which part ranked the scan lower; None of other scores.
    """

    score: str
    group: str
    aside: int
    scans: int
    share: float
    interval: Interval
    by_softmax: int | None = None
    by_familiarity: int | None = None


@dataclass(frozen=True)
class Roughness:
    """Answers to scans under one condition.

    Attributes:
        condition, strength: which, from 1 to 5.
        scans: that it can befall.
        clean: the share of right answers to these as they are.
        accuracy, interval: and under the condition, with Wilson's interval.
        relative: accuracy over clean; NaN where nothing clean is right.
    """

    condition: str
    strength: int
    scans: int
    clean: float
    accuracy: float
    interval: Interval
    relative: float


@dataclass(frozen=True)
class Attention:
    """Whether a network looks where it looked before it learned the last task, by Grad-CAM of the scans' own class.

    Attributes:
        class_number: of the scans; None of all classes together.
        stayed: scans whose two maps correlate by `evaluation.attention.STAYED` at least.
        scans: whose maps could be compared: neither was the same everywhere.
        share, interval: of these, and Wilson's interval.
        correlation: mean of Pearson's coefficients, each taken as the middle of its bin of 0.1.
    """

    class_number: int | None
    stayed: int
    scans: int
    share: float
    interval: Interval
    correlation: float


@dataclass(frozen=True)
class PatientGroup:
    """Right answers to the known scans of one group of patients.

    Attributes:
        kind, group: `age`, and `60 to 79`.
        right, scans: so many of so many.
        share, interval: of these, and Wilson's interval.
    """

    kind: str
    group: str
    right: int
    scans: int
    share: float
    interval: Interval


@dataclass(frozen=True)
class AtHospital:
    """What one hospital's own scans say."""

    hospital: str
    scans: int
    accuracy: float
    interval: Interval
    calibration_error: float


@dataclass(frozen=True)
class Examined:
    """One network, as its hospitals examined it.

    Attributes:
        experiment: its name.
        after_task, task: the number and name of the last task that it had learned.
        hospitals: who examined, each on its own scans.
        scans, accuracy, interval: known scans, the share of right answers, Wilson's interval.
        temperature: by which logits are divided for confidence.
        calibration_error: expected; NaN without scans.
        reliability, referrals: curves of confidence.
        separations, set_aside: by score and group.
        reference: what scans decided thresholds ("validation", "recalls" or "training"); empty where none could.
        reference_scans: how many.
        conditions: by condition and strength.
        robustness: the mean of `relative` over conditions and strengths; NaN without.
        effective_rank: of features (Roy & Vetterli 2007), the exponential of the entropy of their variances' shares,
            mean over hospitals' spectra; NaN where it was not told.
        spectrum: the variances along principal directions, largest first.
        spectrum_scans: of how many scans.
        patients: by group of age, sex and device; empty where no hospital's manifest tells any.
        attention: by class known before the last task, how many scans it stayed on; empty where that was not told.
    """

    experiment: str
    after_task: int
    task: str
    hospitals: tuple[AtHospital, ...]
    scans: int
    accuracy: float
    interval: Interval
    temperature: float
    calibration_error: float
    reliability: tuple[Reliability, ...]
    referrals: tuple[Referral, ...]
    separations: tuple[Separation, ...]
    set_aside: tuple[SetAside, ...]
    reference: str
    reference_scans: int
    conditions: tuple[Roughness, ...]
    robustness: float
    effective_rank: float
    spectrum: tuple[float, ...]
    spectrum_scans: int
    attention: tuple[Attention, ...]
    patients: tuple[PatientGroup, ...]

    def gaps(self) -> dict[str, float]:
        """Of each kind of groups of patients with two or more, the best share of right answers minus the worst."""
        shares: dict[str, list[float]] = {}
        for one in self.patients:
            shares.setdefault(one.kind, []).append(one.share)
        return {kind: max(mine) - min(mine) for kind, mine in shares.items() if len(mine) > 1}

    def separation(self, score: str, group: str) -> Separation | None:
        """How well a score tells a group apart, None where it was not told."""
        return next((one for one in self.separations if (one.score, one.group) == (score, group)), None)


def examined(store: RunStore, name: str) -> Examined | None:
    """The latest examination of an experiment, None where there is none.

    Raises:
        RecordsError: there is no such experiment, or its record cannot be read.
    """
    told = store.examinations(name)
    return _after(store, name, max(told), told) if told else None


def each_examined(store: RunStore, name: str) -> tuple[Examined, ...]:
    """The latest examination after each task that has one, in their order; errors as `examined`."""
    told = store.examinations(name)
    return tuple(_after(store, name, after, told) for after in sorted(told))


def _after(store: RunStore, name: str, after: int, told: Mapping[int, dict[str, Examination]]) -> Examined:
    tasks = store.experiment(name).registry.tasks
    return derived(name, after, tasks[after].name if after < len(tasks) else "", told[after])


def derived(name: str, after: int, task: str, told: dict[str, Examination]) -> Examined:
    """All figures of hospitals' examinations after one task, of at least one hospital."""
    whole = joined(list(told.values()))
    right, wrong = (np.array(row, np.int64) for row in (whole.confidence.right, whole.confidence.wrong))
    conditions = _conditions(whole)
    relative = [one.relative for one in conditions if not np.isnan(one.relative)]
    spectrum = whole.spectrum
    at = [_at(hospital, one) for hospital, one in sorted(told.items())]
    return Examined(
        experiment=name,
        after_task=after,
        task=task,
        hospitals=tuple(at),
        scans=whole.scans,
        accuracy=_share(int(right.sum()), whole.scans),
        interval=wilson(int(right.sum()), whole.scans),
        temperature=whole.temperature,
        calibration_error=calibration_error(right, wrong),
        reliability=tuple(reliability(right, wrong)),
        referrals=tuple(referrals(right, wrong)),
        separations=tuple(_separations(whole)),
        set_aside=tuple(_set_aside(whole)),
        reference=whole.reference.source if whole.reference else "",
        reference_scans=whole.reference.scans if whole.reference else 0,
        conditions=tuple(conditions),
        robustness=float(np.mean(relative)) if relative else float("nan"),
        effective_rank=effective_rank(np.array(spectrum.values)) if spectrum else float("nan"),
        spectrum=tuple(spectrum.values) if spectrum else (),
        spectrum_scans=spectrum.scans if spectrum else 0,
        attention=tuple(_attention(whole)),
        patients=tuple(_patients(whole)),
    )


def as_json(found: Examined) -> dict[str, Any]:
    """The examination with kebab-case keys, ready for `json.dumps`; NaN becomes null."""
    plain: dict[str, Any] = kebab(asdict(found))
    return plain


def _at(hospital: str, told: Examination) -> AtHospital:
    right, wrong = (np.array(row, np.int64) for row in (told.confidence.right, told.confidence.wrong))
    good = int(right.sum())
    accuracy, interval = _share(good, told.scans), wilson(good, told.scans)
    return AtHospital(hospital, told.scans, accuracy, interval, calibration_error(right, wrong))


def _separations(whole: Examination) -> list[Separation]:
    found = []
    for score, groups in whole.scores.items():
        counts = {group: np.array(row, np.int64) for group, row in groups.items()}
        known = [counts[group] for group in KNOWN if group in counts]
        for group, others in counts.items():
            if group == KNOWN[0] or not known:
                continue
            against = counts.get(KNOWN[0], others * 0) if group == KNOWN[1] else np.sum(known, axis=0)
            here, there = int(against.sum()), int(others.sum())
            if here and there:
                area = auroc(against, others)
                found.append(Separation(score, group, area, auc_interval(area, here, there), here, there))
    return found


def _set_aside(whole: Examination) -> list[SetAside]:
    found = []
    for score, groups in whole.set_aside.items():
        for group, aside in groups.items():
            scans = sum(whole.scores[score][group])
            parts = [whole.work[part].get(group, 0) for part in whole.work] if score == COMBINED else []
            by: dict[str, int] = dict(zip(("by_softmax", "by_familiarity"), parts, strict=False))
            found.append(SetAside(score, group, aside, scans, _share(aside, scans), wilson(aside, scans), **by))
    return found


def _conditions(whole: Examination) -> list[Roughness]:
    found = []
    for name, rough in whole.conditions.items():
        scans, clean = sum(rough.scans), sum(rough.clean)
        for strength, row in enumerate(rough.right, start=1):
            right = sum(row)
            found.append(
                Roughness(
                    condition=name,
                    strength=strength,
                    scans=scans,
                    clean=_share(clean, scans),
                    accuracy=_share(right, scans),
                    interval=wilson(right, scans),
                    relative=_share(right, clean),
                )
            )
    return found


def _attention(whole: Examination) -> list[Attention]:
    """Of all classes together first, then of each."""
    if not whole.attention:
        return []
    table = np.array(whole.attention, np.int64)
    middles = (EDGES[:-1] + EDGES[1:]) / 2
    found = []
    for number, row in [(None, table.sum(0)), *enumerate(table)]:
        held, scans = stayed(row), int(row.sum())
        mean = float(row @ middles) / scans if scans else float("nan")
        found.append(Attention(number, held, scans, _share(held, scans), wilson(held, scans), mean))
    return found


def _patients(whole: Examination) -> list[PatientGroup]:
    found = []
    for name, told in whole.patients.items():
        kind, _, group = name.partition(": ")
        share, interval = _share(told.right, told.scans), wilson(told.right, told.scans)
        found.append(PatientGroup(kind, group, told.right, told.scans, share, interval))
    return found


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
