"""Texts that somebody else wrote, as they may be kept and shown."""

import re
from typing import Any

LONGEST = 500
"""Characters of one text: a sentence and what it names."""
COMPUTED = tuple("'=+-@\t\r\n＝＋－＠")
"""What begins a text that a spreadsheet may compute, or that has an apostrophe of its own."""
FIGURE = re.compile(r"[+-]?[0-9.,]*( ?(%|points))?")


def one_line(text: str, most: int = LONGEST) -> str:
    r"""A text without characters that cannot be seen, and cut where it is longer than `most`.

    >>> one_line("a\nb" + "c" * 9, 6)
    'a bcc…'
    """
    shown = "".join(c if c.isprintable() else " " for c in text[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def bounded(value: Any) -> Any:
    """A value of JSON with every text in it, keys too, as `one_line`."""
    if isinstance(value, dict):
        return {one_line(str(key)): bounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [bounded(inner) for inner in value]
    return one_line(value) if isinstance(value, str) else value


def no_formula(cell: Any) -> Any:
    """A cell of a CSV file that no spreadsheet computes (OWASP, "CSV injection").

    A text that begins as a formula does has an apostrophe before it; so has one that begins with an apostrophe, and
    taking one away always gives it back. Numbers, dashes and figures with their units stay as they are.

    >>> [no_formula(cell) for cell in ("=1+1", "-2+3", "-1.5 points", -1.5, "ward = 3")]
    ["'=1+1", "'-2+3", '-1.5 points', -1.5, 'ward = 3']
    """
    formula = isinstance(cell, str) and cell.startswith(COMPUTED) and not FIGURE.fullmatch(cell)
    return f"'{cell}" if formula else cell
