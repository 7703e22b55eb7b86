"""How diagnoses and patients are named by text: one spelling for all, whatever folders and tables write."""

import re
import unicodedata
from functools import lru_cache

MOST = 63
SIGNS = frozenset(".+()'-")
CODES: dict[str, str] = {
    "icd-10": r"[a-z][0-9][0-9a-z](\.[0-9a-z]{1,4})?",
    "snomed-ct": r"[1-9][0-9]{5,17}",
}
"""Systems whose codes may stand beside a class's name, and what their codes look like, in small letters."""


@lru_cache(maxsize=1024)
def label_of(text: str) -> str | None:
    """The one spelling of a class's name, or None where the text is no name of a class.

    Small letters of any script, with their marks, digits and . + - ( ) ', the first a letter or digit, at most 63.

    >>> label_of(" Basal_Cell  carcinoma "), label_of("a/b"), label_of("")
    ('basal-cell-carcinoma', None, None)
    """
    spelt = re.sub(r"[\s_-]+", "-", _folded(text)).strip("-")
    known = all(sign in SIGNS or unicodedata.category(sign)[0] in "LNM" for sign in spelt)
    return spelt if known and spelt[:1].isalnum() and len(spelt) <= MOST else None


def code_of(text: str) -> str | None:
    """`system:code` in its one spelling, or None where it is none of `CODES`.

    >>> code_of("ICD-10:C43.9"), code_of("icd-10:skin")
    ('icd-10:c43.9', None)
    """
    system, _, code = text.strip().casefold().partition(":")
    return f"{system}:{code}" if re.fullmatch(CODES.get(system, "(?!)"), code) else None


def patient_of(text: str) -> str:
    """The one spelling of a patient: an identifier that differs in capitals, blanks or code points alone is the same.

    >>> patient_of(" P  1 ") == patient_of("p 1")
    True
    """
    return " ".join(_folded(text).split())


def _folded(text: str) -> str:
    """Small letters in one composition; folding may take letters apart that were composed."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).strip().casefold())
