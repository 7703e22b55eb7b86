"""A manifest: a table in UTF-8 with the file and the class of each scan and, where known, patient, split, frame, and
the groups of patients that it belongs to.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from braincl_med.foundation.arrays import Split
from braincl_med.foundation.errors import DataError
from braincl_med.foundation.files import reading_error
from braincl_med.foundation.groups import COLUMNS, group_of

MANIFEST = "manifest.csv"
NEEDED = ("path", "label")
SEPARATORS = ",;\t"
LONGEST_TEXT = 1024
LONGEST_LINE = 1 << 16
MOST_FRAMES = 1 << 20
SPLITS: dict[str, Split] = {split: split for split in get_args(Split)} | {"validation": "val", "valid": "val"}


@dataclass(frozen=True)
class Row:
    """One scan of a manifest; `patient` and `groups` are empty, `split` and `frame` None where it does not say."""

    path: str
    label: str
    patient: str = ""
    split: Split | None = None
    frame: int | None = None
    groups: tuple[str, ...] = ()


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a manifest; columns that it has beside those known are left unread.

    A byte order mark, all line ends, commas, semicolons and tabs are understood. No message repeats what a row says.

    Raises:
        DataError: it is no such table; the message says in which line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(path.name, _bounded(file, path.name))
    except UnicodeDecodeError:
        raise DataError(f"'{path.name}' is not UTF-8: save it as 'CSV UTF-8'") from None
    except OSError as error:
        raise reading_error(path, error) from error


def _rows(name: str, lines: Iterator[str]) -> Iterator[Row]:
    head = next(lines, "")
    separator = max(SEPARATORS, key=head.count)
    columns = [column.strip().strip('"').casefold() for column in head.strip("\r\n").split(separator)]
    if missing := [column for column in NEEDED if column not in columns]:
        raise DataError(f"'{name}' has no column '{missing[0]}' in its first line, expected path,label[,patient,…]")
    if twice := [column for column in (*NEEDED, "patient", "split", "frame", *COLUMNS) if columns.count(column) > 1]:
        raise DataError(f"'{name}' has two columns '{twice[0]}': leave one out")
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield _row(fields, columns, f"'{name}', line {reader.line_num + 1}")
    except csv.Error as error:
        raise DataError(f"'{name}', line {reader.line_num + 1}, is no row of a table: {error}") from None


def _row(fields: list[str], columns: list[str], where: str) -> Row:
    if len(fields) != len(columns):
        raise DataError(
            f"{where}, has {len(fields)} fields, its first line has {len(columns)}: quote texts with commas"
        )
    told = {column: field.strip() for column, field in zip(columns, fields, strict=True)}
    if any(len(told.get(column, "")) > LONGEST_TEXT for column in (*NEEDED, "patient")):
        raise DataError(f"{where}, holds a text of more than {LONGEST_TEXT:,} characters")
    if not told["path"] or "\0" in told["path"]:
        raise DataError(f"{where}, names no file")
    split, frame = told.get("split", "").casefold(), told.get("frame", "")
    if split and split not in SPLITS:
        raise DataError(f"{where}, has an unknown split, expected one of: {', '.join(get_args(Split))}")
    if frame and not (frame.isascii() and frame.isdecimal() and len(frame) < 8 and int(frame) < MOST_FRAMES):
        raise DataError(f"{where}, has a frame that is no number from 0 on")
    groups = []
    for kind in COLUMNS:
        try:
            group = group_of(kind, told.get(kind, ""))
        except ValueError as error:
            raise DataError(f"{where}, has an unknown {kind}, {error}") from None
        if group is not None:
            groups.append(group)
    number = int(frame) if frame else None
    return Row(told["path"], told["label"], told.get("patient", ""), SPLITS.get(split), number, tuple(groups))


def _bounded(file: Iterator[str], name: str) -> Iterator[str]:
    """Its lines, none of which may fill the memory."""
    readline = file.readline  # type: ignore[attr-defined]
    while line := readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise DataError(f"'{name}' has a line of more than {LONGEST_LINE:,} characters: it is no manifest")
        yield line
