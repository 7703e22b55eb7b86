"""Which figures of a hospital's answer may enter the run store and the averages."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from braincl_med.evaluation.rejection import EDGES, KNOWN, UNKNOWN

Count = Annotated[int, Field(ge=0, le=2**53, strict=True)]


class _Evaluation(BaseModel):
    model_config = ConfigDict(extra="forbid")

    confusion: list[list[Count]]
    scores: dict[str, dict[str, list[Count]]]
    storage: dict[str, Count]


class _Training(BaseModel):
    model_config = ConfigDict(extra="forbid")

    classes: list[Count] = []


def objection_to_figures(figures: dict[str, Any], phase: str, classes: int) -> str | None:
    """Why an answer's figures cannot be used, or None when they can.

    Args:
        figures: of an evaluation: `confusion` (classes, classes), histograms by score and group, bytes by item; of
            other phases: nothing, or samples by class.
        phase: that was asked for.
        classes: known so far.
    """
    try:
        if phase != "evaluate":
            counts = _Training.model_validate(figures).classes
            return f"it counts {len(counts)} classes, expected {classes}" if len(counts) not in (0, classes) else None
        told = _Evaluation.model_validate(figures)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:2])
        return f"its figures cannot be used: {where}: {first['msg'].lower()}"
    if [len(row) for row in told.confusion] != [classes] * classes:
        return f"its confusion is not {classes} by {classes}"
    for kind, groups in told.scores.items():
        if kind not in EDGES or not groups.keys() <= {*KNOWN, *UNKNOWN}:
            return f"it tells '{kind}' of {', '.join(groups)}, which is no score of known groups"
        if any(len(bins) != len(EDGES[kind]) - 1 for bins in groups.values()):
            return f"its histograms of '{kind}' have not {len(EDGES[kind]) - 1} bins"
    return None
