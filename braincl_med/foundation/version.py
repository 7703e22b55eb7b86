"""Which version of this program runs, as it stands in what it writes."""

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    """The version of this program."""
    try:
        return version("braincl-med")
    except PackageNotFoundError:
        return "not installed"
