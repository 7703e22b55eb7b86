"""Groups of patients, as a manifest tells them of a scan: of age, sex and device, whose accuracies are compared.

No more is kept of an age than its band, and of a device than a short name; nothing of these enters a memory.
"""

import re

AGES = ((0, "0 to 17"), (18, "18 to 39"), (40, "40 to 59"), (60, "60 to 79"), (80, "80 and above"))
"""The first year of each band, and its name."""
OLDEST = 130
SEXES = {"female": "female", "f": "female", "male": "male", "m": "male", "other": "other", "o": "other", "x": "other"}
TOLD = {"age": {band for _, band in AGES}, "sex": set(SEXES.values())}
"""Groups of a kind that has no others."""
UNKNOWN = {"", "unknown", "unk", "u", "na", "n/a", "nan", "none", "null", "not known", "not stated", "?", "-"}
"""How tables say that they do not know: such a scan belongs to no group of that kind."""
YEARS = re.compile(r"(\d{1,3})(\.\d{1,6})?", re.ASCII)
DEVICE = re.compile(r"[a-z0-9][a-z0-9 ._+-]{0,38}")
COLUMNS = ("age", "sex", "device")
NAME = r"^(age|sex|device): [a-z0-9][a-z0-9 ._+-]{0,38}$"
"""What a group is called: its kind, and which."""
EXPECTED = {
    "age": f"a number of years up to {OLDEST}",
    "sex": "female, male or other",
    "device": "a name of up to 39 letters, digits and . _ + -",
}


def group_of(kind: str, text: str) -> str | None:
    """The group that a text in column `kind` names, such as `age: 60 to 79`; None where it says that it is not known.

    Raises:
        ValueError: it is no such text; the message says what was expected.
    """
    text = " ".join(text.casefold().split())
    if text in UNKNOWN:
        return None
    if kind == "age":
        years = int(told[1]) if (told := YEARS.fullmatch(text)) else OLDEST + 1
        value = [band for first, band in AGES if first <= years][-1] if years <= OLDEST else None
    elif kind == "sex":
        value = SEXES.get(text)
    else:
        value = text if DEVICE.fullmatch(text) else None
    if value is None:
        raise ValueError(f"expected {EXPECTED[kind]}, or nothing")
    return f"{kind}: {value}"


def is_group(name: str) -> bool:
    """Whether a group may be called so: of an age a band alone, of a device any short name."""
    kind, _, value = name.partition(": ")
    return value in TOLD[kind] if kind in TOLD else re.match(NAME, name) is not None
