"""Who a patient is, in files where only numbers should be: strings that the auditor knows, and marks of formats."""

import base64
import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from braincl_med.foundation.errors import DataError
from braincl_med.foundation.files import reading_error
from braincl_med.privacy.search import shown, unpacked_streams

FEWEST_CHARACTERS = 6
"""Letters and digits of a string that is searched for: a shorter one is found everywhere by chance."""
MOST_STRINGS = 1_000
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
APART = b"\n" * 4
"""Between stretches that do not belong together: more than may stand between words."""
REACH = 1024
"""Bytes around the longest word in which the others stand."""


@dataclass(frozen=True)
class Identifiers:
    """Strings that must be nowhere, such as names and numbers of patients.

    Attributes:
        known: as the auditor gave them; a report calls them by their number, from 1, and never shows them.
    """

    known: tuple[str, ...] = ()

    @cached_property
    def _needles(self) -> "tuple[tuple[int, bytes, re.Pattern[bytes]], ...]":
        """Of each spelling: the string's number, its longest word, and a pattern of all of it, in lower case."""
        return tuple(
            (number, max(words, key=len), _pattern(words))
            for number, text in enumerate(self.known, 1)
            for words in sorted(_spellings(text))
        )

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
            for how, view in _views(stream) if self.known else ():
                for number in self._found(view.lower()):
                    problems.setdefault(f"holds identifier {number}{how}{where}")
        return list(problems)

    def _found(self, lowered: bytes) -> Iterator[int]:
        """The numbers of strings that bytes in lower case hold."""
        absent: set[bytes] = set()
        for number, longest, pattern in self._needles:
            place = -1 if longest in absent else lowered.find(longest)
            if place < 0:
                absent.add(longest)
            while place >= 0:
                if pattern.search(lowered, max(0, place - REACH), place + REACH):
                    yield number
                    break
                place = lowered.find(longest, place + 1)


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


def _spellings(text: str) -> set[tuple[bytes, ...]]:
    """A text's words as they stand or the other way round, as bytes of each case and encoding, in lower case."""
    found = set()
    for words in (_words(text), _words(text)[::-1]):
        for cased in ([word.lower() for word in words], [word.upper() for word in words]):
            for encoding in ("utf-8", "latin-1"):
                with contextlib.suppress(UnicodeEncodeError):
                    found.add(tuple(word.encode(encoding).lower() for word in cased))
    return found


def _pattern(words: Sequence[bytes]) -> "re.Pattern[bytes]":
    """Words with up to three signs between them."""
    return re.compile(rb"[^0-9a-z]{0,3}".join(map(re.escape, words)), re.DOTALL)


def _views(content: bytes) -> Iterator[tuple[str, bytes]]:
    """A content as it is, and what it may stand for."""
    yield "", content
    if b"\x00" in content:
        yield " as UTF-16", content.replace(b"\x00", b"")
    yield " in hexadecimal", APART.join(bytes.fromhex(run.group().decode()) for run in HEXADECIMAL.finditer(content))
    runs = [run.group().translate(bytes.maketrans(b"-_", b"+/")) for run in BASE64.finditer(content)]
    for start in range(4):
        yield " in base64", APART.join(_unpadded(run[start:]) for run in runs)


def _unpadded(text: bytes) -> bytes:
    """What base64 without its padding stands for, and up to three bytes more."""
    return base64.b64decode(text + b"A" * (-len(text) % 4))
