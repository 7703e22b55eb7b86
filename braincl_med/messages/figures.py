"""Which figures of a hospital's answer may enter the run store and the averages."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from braincl_med.evaluation.examination import Examination
from braincl_med.evaluation.operating import LARGEST_LOSS, SCORES, SOURCES, TEMPERATURES, Score, Source
from braincl_med.evaluation.rejection import EDGES, KNOWN, UNKNOWN
from braincl_med.messages.report import MOST_SAMPLES

Count = Annotated[int, Field(ge=0, le=MOST_SAMPLES, strict=True)]
Noisy = Annotated[int, Field(ge=-MOST_SAMPLES, le=MOST_SAMPLES, strict=True)]
Counts = Annotated[list[Count], Field(fail_fast=True)]
Rows = Annotated[list[Annotated[list[Noisy], Field(fail_fast=True)]], Field(fail_fast=True)]
Bytes = Annotated[int, Field(ge=0, le=2**50, strict=True)]
LARGEST_SUM = MOST_SAMPLES * LARGEST_LOSS
Loss = Annotated[float, Field(ge=0, le=LARGEST_SUM, allow_inf_nan=False, strict=True)]
Losses = Annotated[list[Loss], Field(fail_fast=True)]
ROUNDING = 1e-9

MOST_ITEMS = 50
"""Kinds of scores, or items of storage: there are a dozen."""


class _Known(BaseModel):
    model_config = ConfigDict(extra="forbid")

    source: Source
    score: Score
    losses: Losses
    histogram: Counts
    classes: Counts

    def objection(self, classes: int) -> str | None:
        """Why these sums belong to no scans, or None."""
        if len(self.losses) != len(TEMPERATURES):
            return f"it tells losses at {len(self.losses)} temperatures, expected {len(TEMPERATURES)}"
        if len(self.histogram) != len(EDGES[self.score]) - 1:
            return f"its known scans' histogram of '{self.score}' has not {len(EDGES[self.score]) - 1} bins"
        if len(self.classes) != classes:
            return f"it counts known scans of {len(self.classes)} classes, expected {classes}"
        if sum(self.classes) != sum(self.histogram):
            return "its known scans by class and by score are not equally many"
        if (scans := sum(self.classes)) > MOST_SAMPLES:
            return f"it counts {scans:,} known scans, at most {MOST_SAMPLES:,} are believed"
        if max(self.losses) > scans * LARGEST_LOSS * (1 + ROUNDING):
            return f"its losses are larger than {scans:,} known scans can have, {LARGEST_LOSS:.2f} each"
        return None


Epsilon = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class _Evaluation(BaseModel):
    model_config = ConfigDict(extra="forbid")

    confusion: Rows
    scores: dict[str, dict[str, Counts]]
    storage: dict[Annotated[str, StringConstraints(pattern=r"^[a-z-]{1,30}$")], Bytes]
    known: Annotated[list[_Known], Field(max_length=len(SOURCES) * len(SCORES))] = []
    epsilon: Epsilon | None = None


class _Training(BaseModel):
    model_config = ConfigDict(extra="forbid")

    classes: Counts = []
    epsilon: Epsilon | None = None


def objection_to_figures(
    figures: dict[str, Any], evaluation: bool, classes: int, *, noisy: bool = False
) -> str | None:
    """Why an answer's figures cannot be used, or None when they can.

    Args:
        figures: of an evaluation: `confusion` (classes, classes), histograms by score and group, bytes by item, and
            sums over known scans of each source and score if there are any (`evaluation.operating.Known`); of other
            phases: nothing, or samples by class. Under privacy also the ε that the hospital has spent, which is of
            no scan.
        evaluation: whether an evaluation was asked for.
        classes: known so far.
        noisy: hospitals add noise to their counts (`dp.counts`), which then may be below zero, and tell nothing else.
    """
    known = (_Evaluation if evaluation else _Training).model_fields.keys()
    if more := next((key for key in figures if key not in known), None):
        return f"its figures cannot be used: '{more[:40]}' was not asked for"
    if any(isinstance(held, dict) and len(held) > MOST_ITEMS for held in figures.values()):
        return f"its figures cannot be used: more than {MOST_ITEMS} items of a kind"
    try:
        if not evaluation:
            counts = _Training.model_validate(figures).classes
            return f"it counts {len(counts)} classes, expected {classes}" if len(counts) not in (0, classes) else None
        told = _Evaluation.model_validate(figures)
    except ValidationError as error:
        return _in_words(error)
    if [len(row) for row in told.confusion] != [classes] * classes:
        return f"its confusion is not {classes} by {classes}"
    if noisy and (told.scores or told.storage or told.known):
        return "it tells more than noisy counts, under a privacy-mode that bounds nothing else"
    if not noisy and any(count < 0 for row in told.confusion for count in row):
        return "its confusion has counts below zero"
    for kind, groups in told.scores.items():
        if kind not in EDGES or not groups.keys() <= {*KNOWN, *UNKNOWN}:
            return f"it tells '{kind[:40]}' of {', '.join(groups)[:80]}, which is no score of known groups"
        if any(len(bins) != len(EDGES[kind]) - 1 for bins in groups.values()):
            return f"its histograms of '{kind}' have not {len(EDGES[kind]) - 1} bins"
    if len({(known.source, known.score) for known in told.known}) < len(told.known):
        return "it tells two sums over known scans of one source and score"
    return next((reason for known in told.known if (reason := known.objection(classes))), None)


def objection_to_examination(figures: dict[str, Any], classes: int) -> str | None:
    """Why what an examination told cannot be used, or None.

    Args:
        figures: an `Examination` as `model_dump` makes it.
        classes: known so far.
    """
    try:
        return Examination.model_validate(figures).objection(classes)
    except ValidationError as error:
        return _in_words(error)


def _in_words(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part)[:40] for part in first["loc"][:3])
    return f"its figures cannot be used: {where}: {first['msg'].lower()}"
