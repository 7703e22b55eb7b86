"""Strict reading of YAML: what a person wrote, or one sentence that says where it cannot be taken.

Mappings without a key twice, lists, texts, decimal numbers, `true`, `false` and `null`; plain words are read as YAML
1.2 reads them, so `on` and `1:30` are texts. References, tags, numbers that begin with a zero, and files too large or
too deep for settings are refused.
"""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from braincl_med.foundation.errors import ConfigError

LARGEST = 1 << 18
"""Bytes of a file, characters of a text; a benchmark of twenty rows has 5,000."""
DEEPEST = 16
"""Mappings and lists within each other."""

WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
ZERO_FIRST = re.compile(r"[-+]?0[0-9]+")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")

Value = dict[str, Any] | list[Any] | str | int | float | None


def find(source: str, folder: Path, what: str) -> Path:
    """The file that `source` names: a path, or the name of one in `folder` without its suffix.

    Raises:
        ConfigError: there is none; the message lists the names and says `what` was looked for.
    """
    for place in (os.path.expanduser(source), os.path.join(folder, f"{source}.yaml")):
        if os.path.isfile(place):
            return Path(place)
    names = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
    raise ConfigError(f"no {what} {os.path.basename(source)[:80]!r}: give a YAML file or one of: {names}")


def read_file(path: Path) -> dict[str, Any]:
    """The mapping in a UTF-8 file.

    Raises:
        ConfigError: the file cannot be read, or as `read_text`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ConfigError(f"'{path.name}' cannot be read: {reason}; give a file that this user may read") from None
    _check_size(len(content), f"'{path.name}'", "bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"'{path.name}' is not UTF-8 from byte {error.start + 1} on: save it as UTF-8") from None
    return read_text(text, f"'{path.name}'")


def read_text(text: str, label: str) -> dict[str, Any]:
    """The mapping that `text` is.

    Raises:
        ConfigError: the text is too large, no YAML, no mapping, or holds what is not taken; `label` says whose it is.
    """
    _check_size(len(text), label, "characters")
    try:
        value = _Document(label, yaml.parse(text, Loader=yaml.SafeLoader)).value()
    except yaml.MarkedYAMLError as error:
        place = f" in line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise ConfigError(f"{label} is not YAML: {error.problem}{place}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{label} is not YAML: {str(error).splitlines()[0]}") from None
    except (ValueError, OverflowError):
        # PyYAML's scanner takes escapes and directives for numbers without a look at their size.
        raise ConfigError(f"{label} is not YAML: it has an escape or a directive beyond all limits") from None
    if not isinstance(value, dict):
        seen = "nothing" if value is None else f"a {type(value).__name__}"
        raise ConfigError(f"{label} holds {seen}, expected a mapping of keys to values")
    return value


def _check_size(size: int, label: str, unit: str) -> None:
    if size > LARGEST:
        raise ConfigError(f"{label} has more than {LARGEST:,} {unit}, expected settings alone: give a smaller one")


class _Document:
    """Turns the parser's events into values, one call a node; the errors of `yaml` pass through."""

    def __init__(self, label: str, events: Iterator[yaml.Event]) -> None:
        self.label = label
        self.events = events

    def value(self) -> Value:
        """What the one document holds; None when there is no document."""
        value: Value = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refusal(event, "a second document begins: keep one")
                value = self._node(next(self.events), 0)
        return value

    def _node(self, event: yaml.Event, depth: int) -> Value:
        if isinstance(event, yaml.AliasEvent):
            raise self._refusal(event, f"'*{event.anchor}' refers to another place: write its value out")
        assert isinstance(event, yaml.NodeEvent)
        if getattr(event, "tag", None) is not None:
            raise self._refusal(event, f"the tag '{event.tag}' is not taken: leave it out")  # type: ignore[attr-defined]
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if depth == DEEPEST:
            raise self._refusal(
                event, f"more than {DEEPEST} mappings and lists within each other: no setting is so deep"
            )
        if isinstance(event, yaml.SequenceStartEvent):
            return [self._node(inner, depth + 1) for inner in self._until(yaml.SequenceEndEvent)]
        return self._mapping(depth)

    def _mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for event in self._until(yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None or not event.value:
                raise self._refusal(event, "a key is no plain word: write a setting's name")
            key, line = self._text(event), _line(event)
            if key in found:
                raise self._refusal(event, f"the key '{key}' stands there again, after line {lines[key]}: keep one")
            found[key], lines[key] = self._node(next(self.events), depth + 1), line
        return found

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        """The next events at this level up to the one of the kind `end`; the caller takes what lies between."""
        for event in self.events:
            if isinstance(event, end):
                return
            yield event

    def _scalar(self, event: yaml.ScalarEvent) -> str | int | float | None:
        text = self._text(event)
        if event.style is not None:  # quoted, or a block of text
            return text
        if text in WORDS:
            return WORDS[text]
        if ZERO_FIRST.fullmatch(text):
            raise self._refusal(event, f"the number {text[:40]} begins with a zero: leave it out, or quote a text")
        if INTEGER.fullmatch(text):
            if len(text) > 100:
                raise self._refusal(event, f"a number has {len(text):,} digits: write one that a setting can have")
            return int(text)
        return float(text) if NUMBER.fullmatch(text) else text

    def _text(self, event: yaml.ScalarEvent) -> str:
        text: str = event.value
        # Surrogates cannot be written again, and no name, number or folder has a control character.
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
            raise self._refusal(event, "a text holds a control character: leave it out")
        return text

    def _refusal(self, event: yaml.Event, problem: str) -> ConfigError:
        return ConfigError(f"{self.label}, line {_line(event)}: {problem}")


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.line + 1
