"""Who a patient is, in files where only numbers should be: strings that the auditor knows, and marks of formats."""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from braincl_med.foundation.errors import DataError
from braincl_med.foundation.files import reading_error
from braincl_med.privacy.search import shown, unpacked_streams

FEWEST_CHARACTERS = 6
"""Letters and digits of a string that is searched for: a shorter one is found everywhere by chance."""
MOST_STRINGS = 10_000
MARKS = (
    (re.compile(rb"\x10\x00[\x10\x20\x30\x40]\x00(PN|LO|DA|SH|CS|AS)", re.DOTALL), "a DICOM tag of a patient"),
    (re.compile(rb"\x00{4}DICM\x02\x00"), "the head of a DICOM file"),
    (re.compile(rb"Exif\x00\x00(II\*\x00|MM\x00\*)"), "EXIF data"),
    (
        re.compile(
            rb"(?<![\w/.:])/(home|Users|mnt|media|srv|root|data|tmp|var|opt)/[\w.-]+|\b[A-Za-z]:\\[\w .-]{2,}\\"
        ),
        "a path",
    ),
)
"""What no file of a vault and no record of a run holds, whoever the patients are."""
HEXADECIMAL = re.compile(rb"(?:[0-9a-fA-F]{2}){6,}")
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{8,}")


@dataclass(frozen=True)
class Identifiers:
    """Strings that must be nowhere, such as names and numbers of patients.

    Attributes:
        known: as the auditor gave them; a report calls them by their number, from 1, and never shows them.
    """

    known: tuple[str, ...] = ()
    _pattern: "re.Pattern[bytes] | None" = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if self.known:
            pattern = b"|".join(b"(?P<s%d>%s)" % (n, _spellings(text)) for n, text in enumerate(self.known, 1))
            object.__setattr__(self, "_pattern", re.compile(pattern, re.IGNORECASE))

    def __len__(self) -> int:
        return len(self.known)

    def findings(self, content: bytes, *, paths: bool = True) -> list[str]:
        """What a file's content tells, in words that follow its name: none for a clean one.

        Known strings are searched for in any case, in any order of their words, with whatever stands between these,
        as UTF-8 and UTF-16, in hexadecimal and base64, and within compressed streams.

        Args:
            content: the file.
            paths: paths count as well.
        """
        problems: dict[str, None] = {}
        for where, stream in unpacked_streams(content):
            for mark, what in MARKS:
                if mark.search(stream) and (paths or what != "a path"):
                    problems.setdefault(f"holds {what}{where}")
            if self._pattern is None:
                continue
            for how, view in _views(stream):
                for match in self._pattern.finditer(view):
                    problems.setdefault(
                        f"holds identifier {match.lastgroup[1:]}{how}{where}" if match.lastgroup else ""
                    )
        return list(problems)


NO_IDENTIFIERS = Identifiers()


def read_identifiers(path: Path) -> Identifiers:
    """Known strings of a text file, one a line.

    Raises:
        DataError: it is no text, holds none or too many, or one that would be found by chance; none is shown.
        VaultError: it cannot be read.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{shown(path.name)} is no text: give one identifier a line, in UTF-8") from None
    except OSError as error:
        raise reading_error(path, error) from error
    known = tuple(line.strip() for line in lines if line.strip())
    for number, line in enumerate(lines, 1):
        if line.strip() and len("".join(_words(line))) < FEWEST_CHARACTERS:
            raise DataError(
                f"line {number} of {shown(path.name)} has fewer than {FEWEST_CHARACTERS} letters and digits: it "
                "would be found by chance, give more of it"
            )
    if not 0 < len(known) <= MOST_STRINGS:
        raise DataError(f"{shown(path.name)} holds {len(known):,} identifiers, expected 1 to {MOST_STRINGS:,}")
    return Identifiers(known)


def _words(text: str) -> Sequence[str]:
    return re.findall(r"\w+", text.replace("_", " "))


def _spellings(text: str) -> bytes:
    """A pattern of a text's words as they stand or the other way round, with up to three signs between them."""
    words = [re.escape(word.encode()) for word in _words(text)]
    between = rb"[^0-9A-Za-z]{0,3}"
    return b"(?:" + between.join(words) + b"|" + between.join(words[::-1]) + b")"


def _views(content: bytes) -> Iterator[tuple[str, bytes]]:
    """A content as it is, and what it may stand for."""
    yield "", content
    if b"\x00" in content:
        yield " as UTF-16", content.replace(b"\x00", b"")
    for run in HEXADECIMAL.finditer(content):
        yield " in hexadecimal", bytes.fromhex(run.group().decode())
    for run in BASE64.finditer(content):
        text = run.group().translate(bytes.maketrans(b"-_", b"+/"))
        try:
            yield " in base64", base64.b64decode(text + b"=" * (-len(text) % 4))
        except binascii.Error:
            continue
