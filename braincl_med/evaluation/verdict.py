"""May one rely on it? By limits that a hospital sets, and by no others.

A limit that nobody has set is not judged, and is named as such: no number is a default that somebody may take for
advice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from braincl_med.evaluation.diagnosis import Diagnosis, Share

Limit = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Limits(BaseModel):
    """What a hospital asks of every diagnosis; None is not asked.

    Attributes:
        sensitivity: at least so many of its scans are found.
        precision: when it is called it is right at least so often, at the mix of the test scans.
        false_alarms: at most so many of the other scans are called by its name.
        fall: since it was at its best it has lost at most so much sensitivity.
        scans: it was tested on at least so many scans.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-"))

    sensitivity: Limit | None = None
    precision: Limit | None = None
    false_alarms: Limit | None = None
    fall: Limit | None = None
    scans: Annotated[int, Field(ge=1, le=10**9)] | None = None

    @property
    def asked(self) -> dict[str, float]:
        """The limits that are set, by name."""
        return {name: limit for name, limit in self.model_dump().items() if limit is not None}


WORDS = {
    "sensitivity": "how many of its scans are found",
    "precision": "how often it is right when it is called",
    "false_alarms": "how often others are called by its name",
    "fall": "what it lost since it was learned",
    "scans": "how many scans it was tested on",
}


@dataclass(frozen=True)
class Judged:
    """One diagnosis against the limits.

    Attributes:
        number: of its class.
        failed: the names of limits that it does not meet, or that cannot be judged for want of scans.
        doubtful: of those that it meets, the ones beyond which its interval reaches.
        said: what was counted, as a sentence.
    """

    number: int
    failed: tuple[str, ...]
    doubtful: tuple[str, ...]
    said: str


@dataclass(frozen=True)
class Verdict:
    """Whether it may be used, by the limits that are set.

    Attributes:
        ready: None where no limit is set, or nothing was tested.
        sentence: the verdict, and the weakest diagnosis.
        judged: every diagnosis, the weakest first.
        not_judged: what no limit was set for, in words.
    """

    ready: bool | None
    sentence: str
    judged: tuple[Judged, ...]
    not_judged: tuple[str, ...]


def verdict(rows: Sequence[Diagnosis], names: Mapping[int, str], tasks: Sequence[str], limits: Limits) -> Verdict:
    """Judge every diagnosis.

    Args:
        rows: of all known diagnoses.
        names: of classes by number, as a clinician reads them.
        tasks: names of the groups of diagnoses, in the order of learning.
        limits: of the hospital.
    """
    judged = tuple(_judged(row, names, tasks, limits) for row in sorted(rows, key=weakness))
    not_judged = tuple(words for name, words in WORDS.items() if name not in limits.asked)
    if not rows:
        return Verdict(None, "Nothing has been tested yet.", (), not_judged)
    if not limits.asked:
        return Verdict(None, "No verdict: no limits are set.", judged, not_judged)
    if failed := [one for one in judged if one.failed]:
        return Verdict(
            False, f"Not ready: {_missed(failed, len(rows), limits)}. {failed[0].said}", judged, not_judged
        )
    said = (
        f"Within the limits that are set: {'the only diagnosis' if len(rows) == 1 else f'all {len(rows)} diagnoses'}."
    )
    if doubtful := [one for one in judged if one.doubtful]:
        said += f" For {len(doubtful)} of them chance alone may have brought that about. {doubtful[0].said}"
    return Verdict(True, said, judged, not_judged)


def weakness(row: Diagnosis) -> tuple[bool, float]:
    """Least found first; of what nothing is told comes before all."""
    return not isnan(row.found.value), row.found.value


def _missed(failed: Sequence[Judged], of: int, limits: Limits) -> str:
    """How many diagnoses do not meet which limits."""
    many = f"{len(failed)} of {of} {'diagnosis' if of == 1 else 'diagnoses'} {'is' if len(failed) == 1 else 'are'}"
    names = [name for name in WORDS if any(name in one.failed for one in failed)]
    if names == ["sensitivity"] and limits.sensitivity is not None:
        return f"{many} below {100 * limits.sensitivity:.3g} %"
    return f"{many} beyond the limits ({'; '.join(WORDS[name] for name in names)})"


def _judged(row: Diagnosis, names: Mapping[int, str], tasks: Sequence[str], limits: Limits) -> Judged:
    failed, doubtful = [], []
    for name, share, at_least in (
        ("sensitivity", row.found, True),
        ("precision", row.right, True),
        ("false_alarms", row.false_alarms, False),
    ):
        limit = getattr(limits, name)
        if limit is not None:
            if not _meets(share.value, limit, at_least):
                failed.append(name)
            elif not all(_meets(end, limit, at_least) for end in share.interval):
                doubtful.append(name)
    # Of what nothing is told nobody knows what it lost; a diagnosis of the latest task has not lost anything yet.
    if limits.fall is not None and (isnan(row.found.value) or row.best - row.found.value > limits.fall):
        failed.append("fall")
    if limits.scans is not None and row.found.whole < limits.scans:
        failed.append("scans")
    return Judged(row.number, tuple(failed), tuple(doubtful), _said(row, names, tasks))


def _meets(value: float, limit: float, at_least: bool) -> bool:
    """Whether a share keeps to a limit; one that nobody knows does not."""
    return value >= limit if at_least else value <= limit


def _said(row: Diagnosis, names: Mapping[int, str], tasks: Sequence[str]) -> str:
    name = names[row.number]
    if row.found.withheld:
        return f"{name}: fewer test scans than may be told of."
    if not row.found.whole:
        return f"{name}: not tested, it has no test scans."
    said = f"{name}: {in_words(row.found)} found"
    if row.best - row.found.value > 0:
        until = tasks[row.best_after + 1] if row.best_after + 1 < len(tasks) else ""
        said += f", it was {100 * row.best:.0f} % before group {row.best_after + 2}" + (
            f" ({until})" if until else ""
        )
    if row.taken_for:
        other, count = row.taken_for[0]
        missed = row.found.whole - row.found.part
        most = "most" if 2 * count > missed else f"{count} of them"
        said += f"; {most} were called {names[other]}" if missed > 1 else f"; the other was called {names[other]}"
    return said + "."


def in_words(share: Share) -> str:
    """As "36 of 50 (72 %, 58 to 83)": the interval holds the true share in 95 of 100 cases."""
    low, high = share.interval
    return f"{share.part} of {share.whole} ({100 * share.value:.0f} %, {100 * low:.0f} to {100 * high:.0f})"
