"""Which version of this program runs, and with which versions of Flower it does."""

import re
from importlib.metadata import PackageNotFoundError, version

from braincl_med.foundation.errors import ConfigError

FLOWER_FROM, FLOWER_BELOW = "1.41", "1.43"
"""The versions of Flower that were tested: from the first on, and below the second, which speaks otherwise."""


def program_version() -> str:
    """The version of this program."""
    return installed("braincl-med")


def installed(package: str) -> str:
    """The version of an installed package, or that it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def is_tested(flower: str) -> bool:
    """Whether a version of Flower is one that was tested.

    >>> [is_tested(text) for text in ("1.41.0", "1.42.3", "1.43.0", "1.9", "2.0", "not installed")]
    [True, True, False, False, False, False]
    """
    numbers = _numbers(flower)
    return numbers is not None and (_numbers(FLOWER_FROM) or ()) <= numbers < (_numbers(FLOWER_BELOW) or ())


def require_tested_flower() -> None:
    """Refuse to start over a Flower that nobody has tried with this program.

    Raises:
        ConfigError: another version is installed, or none.
    """
    found = installed("flwr")
    if not is_tested(found):
        raise ConfigError(
            f"Flower is {found}, this program is tested with {FLOWER_FROM} up to, and not with, {FLOWER_BELOW}: "
            f"`pip install 'flwr[simulation]>={FLOWER_FROM},<{FLOWER_BELOW}'`, at the server and at every hospital"
        )


def _numbers(text: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None
