"""Why a file is no scan to learn from: kinds that are counted, with a reason that holds no name, tag or path."""

from enum import StrEnum

from braincl_med.foundation.errors import DataError


class Kind(StrEnum):
    """What is wrong with a file, or with what is said of it."""

    MISSING = "missing"
    OUTSIDE = "outside the folder"
    UNREADABLE = "unreadable"
    NOT_A_PICTURE = "not a picture"
    TRUNCATED = "truncated"
    TOO_LARGE = "too large"
    FRAMES = "several frames"
    PHOTOMETRIC = "wrong photometric"
    BLANK = "blank"
    DUPLICATE = "duplicate"
    LABEL_MISSING = "label missing"
    LABEL_UNKNOWN = "label unknown"


class ScanRefusedError(DataError):
    """A file that is no scan to learn from.

    Attributes:
        kind: by which refusals are counted.
        reason: in one sentence that may leave the hospital: what was seen, what was expected, what to do.
    """

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind, self.reason = kind, reason
