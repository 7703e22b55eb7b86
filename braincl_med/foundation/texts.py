"""Texts that somebody else wrote, as they may be kept and shown."""

from typing import Any

LONGEST = 500
"""Characters of one text: a sentence and what it names."""


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
