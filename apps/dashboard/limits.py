"""What a hospital asks of every diagnosis: a YAML file of its own, or what a reader enters on the page."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from braincl_med.evaluation.verdict import Limits
from braincl_med.foundation.errors import ConfigError
from braincl_med.settings.reading import read_file

SHARES = ("sensitivity", "precision", "false-alarms", "fall")
"""Limits that the file and the page say in percent."""
KNOWN = (*SHARES, "scans")


def read_limits(path: Path) -> Limits:
    """The limits in a file such as `sensitivity: 80` and `scans: 50`; shares in percent.

    Raises:
        ConfigError: it is no such file.
    """
    return limits_of(read_file(path), f"'{path.name}'")


def limits_of(said: Mapping[str, object], where: str) -> Limits:
    """Limits from what a file or an address says; shares in percent.

    Raises:
        ConfigError: a limit is none that is known, or no number within its range.
    """
    if unknown := sorted(set(said) - set(KNOWN)):
        known = ", ".join(KNOWN)
        raise ConfigError(f"{where} asks for '{str(unknown[0])[:40]}', which is no limit: known are {known}")
    values: dict[str, object] = {}
    for name, value in said.items():
        try:
            number = float(str(value))
        except ValueError:
            raise ConfigError(f"{where} asks for {name} '{str(value)[:20]}', expected a number") from None
        values[name] = number / 100 if name in SHARES else number
    try:
        return Limits.model_validate(values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise ConfigError(
            f"{where} asks for {name} {said[name]}, which lies outside its range: 0 to 100 (percent), of scans whole "
            "numbers from 1"
        ) from None
