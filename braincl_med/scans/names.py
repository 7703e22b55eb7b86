"""How diagnoses are named by text: one spelling for all hospitals, whatever their folders and tables write."""

import re
import unicodedata
from functools import lru_cache
from typing import Annotated

from pydantic import StringConstraints

LABEL = r"[^\W_][\w.+()'-]{0,62}"
ClassLabel = Annotated[str, StringConstraints(pattern=f"^{LABEL}$")]
"""The spelling by which a class is known: letters, digits and . + - ( ) ', in small letters."""

CODES: dict[str, str] = {
    "icd-10": r"[a-z][0-9][0-9a-z](\.[0-9a-z]{1,4})?",
    "snomed-ct": r"[1-9][0-9]{5,17}",
}
"""Systems whose codes may stand beside a class's name, and what their codes look like, in small letters."""


@lru_cache(maxsize=1024)
def label_of(text: str) -> str | None:
    """The one spelling of a class's name, or None where the text is no name of a class.

    >>> label_of(" Basal_Cell  carcinoma "), label_of("a/b"), label_of("")
    ('basal-cell-carcinoma', None, None)
    """
    spelt = re.sub(r"[\s_]+", "-", unicodedata.normalize("NFKC", text).strip().casefold())
    return spelt if re.fullmatch(LABEL, spelt) else None


def code_of(text: str) -> str | None:
    """`system:code` in its one spelling, or None where it is none of `CODES`.

    >>> code_of("ICD-10:C43.9"), code_of("icd-10:skin")
    ('icd-10:c43.9', None)
    """
    system, _, code = text.strip().casefold().partition(":")
    return f"{system}:{code}" if re.fullmatch(CODES.get(system, "(?!)"), code) else None
