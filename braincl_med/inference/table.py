"""Rows of answers as CSV and as JSON; both say the same."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from braincl_med.foundation.texts import no_formula
from braincl_med.inference.model import Model
from braincl_med.inference.predict import Row

FORMAT, VERSION = "braincl-answers", 1
COLUMNS = (
    "file", "verdict", "class", "name", "probability", "second", "second-probability", "third", "third-probability",
    "score", "reason", "overlay",
)  # fmt: skip
DIGITS = 6
NOT_FINITE = "the network's numbers of it are not finite"


def csv_lines(model: Model, rows: Iterable[Row]) -> Iterator[bytes]:
    """A table in UTF-8 with a first line of `COLUMNS`, piece by piece; classes as `dataset/label`.

    A file name that is no UTF-8 keeps its bytes. A text that begins as a formula does has a `'` before it, so that no
    spreadsheet computes it; so has one that begins with `'`, so that taking one away always gives it back.
    """
    buffer = io.StringIO()
    # The writer quotes what its own line end has in it, and a name may hold either character.
    writer = csv.DictWriter(buffer, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    yield _taken(buffer)
    for row in rows:
        writer.writerow({name: no_formula(value) for name, value in _flat(model, row).items()})
        yield _taken(buffer)


def json_text(model: Model, rows: Iterable[Row]) -> bytes:
    """An object with what the answers rest on, and a list `scans` of one object a file."""
    operating = model.operating
    told: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "experiment": model.experiment,
        "operating-point": operating and {**operating.model_dump(mode="json"), "scans": operating.scans},
        "caution": model.caution,
        "scans": [_whole(model, row) for row in rows],
    }
    return (json.dumps(told, indent=1, allow_nan=False) + "\n").encode()


def _taken(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue().removesuffix("\r\n") + "\n"
    buffer.seek(0)
    buffer.truncate()
    return text.encode("utf-8", "surrogateescape")


def _flat(model: Model, row: Row) -> dict[str, Any]:
    told: dict[str, Any] = {"file": str(row.file), "verdict": row.verdict.value, "overlay": row.overlay}
    if row.answer is None:
        return {**told, "reason": str(row.refusal)}
    if not row.answer.top:
        return {**told, "reason": NOT_FINITE}
    for name, (number, probability) in zip(("", "second", "third"), row.answer.top, strict=False):
        told[name or "class"] = model.classes[number].key
        told[f"{name}-probability" if name else "probability"] = round(probability, DIGITS)
    return {**told, "name": model.classes[row.answer.number].name, "score": round(row.answer.score, DIGITS)}


def _whole(model: Model, row: Row) -> dict[str, Any]:
    told: dict[str, Any] = {"file": str(row.file), "verdict": row.verdict.value}
    if row.overlay:
        told["overlay"] = row.overlay
    if row.answer is None:
        return {**told, "refused": row.refusal and {"kind": row.refusal.kind.value, "reason": row.refusal.reason}}
    if not row.answer.top:
        nothing = dict.fromkeys(("class", "name", "probability", "score", "sure"))
        return {**told, **nothing, "top": [], "reason": NOT_FINITE}
    top = [
        {
            "class": model.classes[number].key,
            "name": model.classes[number].name,
            "probability": round(probability, DIGITS),
        }
        for number, probability in row.answer.top
    ]
    numbers = {"score": round(row.answer.score, DIGITS), "sure": round(row.answer.sure, DIGITS)}
    return {**told, **top[0], "top": top, **numbers}
