"""Files become scans while earlier ones are answered: threads read ahead, never further than a bounded number."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braincl_med.scans.reading import read_scan, without_warnings
from braincl_med.scans.refusals import Kind, ScanRefusedError
from braincl_med.settings.config import Fit

READERS = min(4, os.cpu_count() or 1)
"""Threads: decoding happens outside of Python's lock, and a disk or a network is waited for."""

Pixels = npt.NDArray[np.uint8]


def files_of(paths: Iterable[Path]) -> Iterator[Path]:
    """The files that are meant, as they were given; a folder stands for all in it, sorted, but for hidden ones.

    Links to folders are not followed, since they may lead in circles. They and folders that this user may not look
    into come too, to be refused.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _files_in(path)
        else:
            yield path


def _files_in(path: Path) -> Iterator[Path]:
    closed: list[Path] = []
    for folder, folders, names in os.walk(path, onerror=lambda error: closed.append(Path(error.filename))):
        yield from closed
        closed.clear()
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(names + links) if not name.startswith("."))
    yield from closed


def scans_of(
    files: Iterable[Path], size: int, fit: Fit, ahead: int
) -> Iterator[tuple[Path, Pixels | ScanRefusedError]]:
    """Each file with its pixels (size, size, 3), or with why it is no scan, in their order.

    Args:
        files: taken one by one.
        size, fit: as `read_scan`.
        ahead: at most so many scans are held.
    """
    waiting = iter(files)
    with without_warnings(), ThreadPoolExecutor(READERS, thread_name_prefix="reader") as readers:

        def asked(count: int) -> list[tuple[Path, Future[Pixels | ScanRefusedError]]]:
            return [(file, readers.submit(_read, file, size, fit)) for file in islice(waiting, count)]

        held = deque(asked(ahead))
        try:
            while held:
                file, future = held.popleft()
                yield file, future.result()
                held.extend(asked(1))
        finally:
            for _, future in held:
                future.cancel()


def _read(file: Path, size: int, fit: Fit) -> Pixels | ScanRefusedError:
    if os.path.isdir(file):
        if os.path.islink(file):
            return ScanRefusedError(Kind.UNREADABLE, "links to folders are not followed: name the folder itself")
        return ScanRefusedError(Kind.UNREADABLE, "this user may not look into this folder")
    try:
        return read_scan(file, size, fit)
    except ScanRefusedError as refused:
        return refused
    except OSError as error:
        kind = Kind.MISSING if isinstance(error, FileNotFoundError) else Kind.UNREADABLE
        reason = os.strerror(error.errno).lower() if error.errno else "it is damaged, or no picture that is known"
        return ScanRefusedError(kind, reason)
