"""What the checks of a vault are called, and how their problems are told."""

from collections.abc import Sequence

MANIFEST_CHECK = "The manifest is intact"
FILES_CHECK = "Every committed file is intact"
CUES_CHECK = "Every cue decodes"
BYTES_CHECK = "Nothing is hidden in a cue file"
SEAL_CHECK = "All memories are sealed, or all are plain"
MODES_CHECK = "Nobody but its owner may use the vault"
FOLDER_CHECK = "Nothing but memories lies in the vault"
SCANS_CHECK = "No raw scan lies in the vault"
UNUSED_CHECK = "Every component is used by a record"
SHOWN_CHECK = "No component shows a scan better than its recall"
FIT_CHECK = "The given scans are those of the memories"
NAMES_CHECK = "Names and keys are those of the run store"
IDENTIFIERS_CHECK = "No identifier stands in the vault"
ATTACHED_CHECK = "Nothing is attached to folders and files"

CHECKS = (
    MANIFEST_CHECK,
    FILES_CHECK,
    CUES_CHECK,
    BYTES_CHECK,
    UNUSED_CHECK,
    SEAL_CHECK,
    MODES_CHECK,
    ATTACHED_CHECK,
    FOLDER_CHECK,
    IDENTIFIERS_CHECK,
    SCANS_CHECK,
)
WITH_SCANS, WITH_STATE = (FIT_CHECK, SHOWN_CHECK), (NAMES_CHECK,)

MOST_NAMED = 50
"""Problems that one check spells out; more are counted."""


def sentence(problems: Sequence[str]) -> str:
    """All problems of a check, the first 50 of them spelled out."""
    more = len(problems) - MOST_NAMED
    return "; ".join(problems[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
