"""Which files say or show again what another one does."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator

from braincl_med.scans.listing import Entry
from braincl_med.scans.refusals import Kind, ScanRefusedError


def listed_again(named: Iterable[tuple[Hashable, Entry]]) -> Iterator[Entry]:
    """Of entries and what tells them apart, those that were listed before."""
    seen: set[Hashable] = set()
    for name, entry in named:
        if name in seen:
            yield entry
        seen.add(name)


def copies(contents: Iterable[tuple[bytes, Entry]]) -> dict[int, ScanRefusedError]:
    """Why scans that show what another one shows are refused, by `id` of the entry.

    All of them are where their classes or the manifest's splits differ, else all but the first.

    Args:
        contents: of each scan a digest of its pixels, in the order in which they were first met.
    """
    alike: dict[bytes, list[Entry]] = defaultdict(list)
    for content, entry in contents:
        alike[content].append(entry)
    refused: dict[int, ScanRefusedError] = {}
    for entries in alike.values():
        if len(entries) == 1:
            continue
        if len({entry.label for entry in entries}) > 1:
            reason, left = "the same picture lies in another class too: only one can be right", entries
        elif len({entry.split for entry in entries}) > 1:
            reason, left = "the same picture is said to belong into another split too", entries
        else:
            reason, left = "the same picture is there already", entries[1:]
        refused |= {id(entry): ScanRefusedError(Kind.DUPLICATE, reason) for entry in left}
    return refused
