"""Scans of the hospitals' own, in folders or listed in manifests (`scans`): the sets `own` and `own-…`."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braincl_med.foundation.arrays import Images, Positions, Split
from braincl_med.foundation.errors import ConfigError, DataError, MissingScansError
from braincl_med.foundation.files import reading_error
from braincl_med.foundation.progress import bar
from braincl_med.scans.cache import SUFFIX, Cache
from braincl_med.scans.index import READERS, Findings, Found, Index, Keep, version_of
from braincl_med.scans.listing import list_scans
from braincl_med.scans.names import code_of, label_of
from braincl_med.scans.reading import fit, read_scan, without_warnings
from braincl_med.scans.refusals import ScanRefusedError
from braincl_med.settings.config import StreamConfig
from braincl_med.streams.held import Held
from braincl_med.streams.place import Place
from braincl_med.streams.tasks import OWN, ClassSpec, is_own

log = logging.getLogger("braincl")
INDEX = "scans.sqlite"
SPLIT_SEED = 0
"""Of the draw of splits: they belong to a hospital, not to one of its experiments, whose seeds differ."""


class OwnScans:
    """What lies in `<set>/` of a hospital's data folder: class folders, or a manifest.

    In a simulation, scans in `site-1/<set>/` are site-1's own, and those in `<set>/` are dealt out to all hospitals.
    A hospital without such a folder has no scans of the set.
    """

    synthetic = False
    unknown = ""
    free_text = True

    def holds(self, dataset: str) -> bool:
        """`own`, and all names that begin with `own-`."""
        return is_own(dataset)

    def title(self, dataset: str) -> str:
        """`skin` of `own-skin`."""
        return dataset.removeprefix(f"{OWN}-")

    def class_names(self, dataset: str) -> tuple[str, ...]:
        """Only hospitals know.

        Raises:
            ConfigError: always; whoever asks wants classes that are listed.
        """
        raise ConfigError(
            f"the classes of '{dataset}' are what the hospitals' folders say: name those to learn one by one, "
            f"such as {dataset}/melanoma, in a stream of tasks"
        )

    def shared(self, dataset: str, place: Place) -> bool:
        """Whether the scans there are dealt out to all hospitals."""
        return _own_folder(dataset, place) is None

    def require(self, classes: Sequence[ClassSpec], split: Split, stream: StreamConfig, place: Place) -> None:
        """Look at the names of files and folders of all hospitals of a simulation, not yet into the files."""
        dataset = classes[0].dataset
        folders = list(_simulated_folders(dataset, place))
        if strange := _of_nobody(dataset, place):
            raise DataError(
                f"'{strange}/{dataset}' belongs to no hospital: those of this simulation are site-0 to "
                f"site-{(place.hospitals or 1) - 1}"
            )
        if not folders:
            raise MissingScansError(
                f"no hospital's folder '{dataset}' is there: put scans into {dataset}/CLASS/ below the data folder "
                f"(--data, data-root), or into site-0/{dataset}/CLASS/ for the first hospital alone"
            )
        labels = {entry.label for folder in folders for entry in list_scans(folder)}
        for spec in classes:
            if not labels & set(spec.labels):
                have = ", ".join(sorted(labels - {""})[:10]) or "none"
                raise DataError(f"no hospital has scans of '{spec.key}'; the classes of '{dataset}' are: {have}")

    def held(self, dataset: str, split: Split, stream: StreamConfig, place: Place) -> Held:
        """What one look through the folder finds; every file that is new is opened.

        Raises:
            DataError: some files are no scans to learn from, and the configuration does not say to leave them out.
        """
        cache = _cache(dataset, stream, place) if split == "train" else None
        try:
            found = _found(dataset, stream, place, cache)
        except BaseException:
            _forget_pixels(dataset, place)
            raise
        if split != "train":
            _forget_pixels(dataset, place)
        if found.refused and split == "train":
            log.warning("%s, and are left out", refusals(dataset, found))
        scans = [scan for scan in found.scans if scan.split == split]

        def images(rows: Positions) -> Images:
            try:
                return _read(dataset, [scans[row] for row in rows], stream, cache)
            finally:
                _forget_pixels(dataset, place)

        labels = np.array([scan.entry.label for scan in scans], np.str_)
        return Held(labels, images, _patients(scans), _groups(scans))

    def described(self, datasets: Sequence[str], stream: StreamConfig) -> str:
        """Without a word on what only hospitals know."""
        return f"scans of the hospitals' own ({', '.join(datasets)})"


def spec_of(dataset: str, text: str) -> ClassSpec:
    """The class that a text names: `melanoma`, with a code `melanoma@icd-10:C43.9` or `melanoma@snomed-ct:372244006`.

    Raises:
        ConfigError: it is no name of a class, or the code is none.
    """
    name, at, code = text.partition("@")
    label = label_of(name)
    if label is None:
        raise ConfigError(
            f"'{text[:70]}' cannot name a class: use up to 63 letters, digits, spaces and . + - ( ) ', the first "
            "a letter or digit"
        )
    if at and code_of(code) is None:
        raise ConfigError(
            f"'{code[:70]}' is no code of ICD-10 or SNOMED CT: write icd-10:C43.9 or snomed-ct:372244006"
        )
    title = dataset.removeprefix(f"{OWN}-")
    return ClassSpec(
        dataset=dataset, label=label, name=f"{title}: {' '.join(name.split())[:100]}", code=code_of(code) or ""
    )


def _own_folder(dataset: str, place: Place) -> Path | None:
    """The folder of a set that is this hospital's own, None where all hospitals of a simulation share one."""
    if place.folder is None:
        return None
    if place.alone:
        return place.folder / dataset
    if not place.site or not any(_sites(dataset, place.folder)):
        return None
    return place.folder / place.site / dataset


def _sites(dataset: str, folder: Path) -> Iterator[Path]:
    """The folders of a set that belong to one simulated hospital each."""
    return (path for path in sorted(folder.glob(f"site-*/{dataset}")) if path.is_dir())


def _of_nobody(dataset: str, place: Place) -> str | None:
    """A hospital's folder in a simulation that has no such hospital."""
    if place.folder is None or place.hospitals is None:
        return None
    named = {f"site-{number}" for number in range(place.hospitals)}
    return next((path.parent.name for path in _sites(dataset, place.folder) if path.parent.name not in named), None)


def _simulated_folders(dataset: str, place: Place) -> Iterator[Path]:
    """The folders of a set at all hospitals of a simulation; the shared one counts only where none has its own."""
    if place.folder is not None:
        held = list(_sites(dataset, place.folder))
        shared = place.folder / dataset
        yield from held or ([shared] if shared.is_dir() else [])


def _found(dataset: str, stream: StreamConfig, place: Place, cache: Cache | None) -> Findings:
    """The set as this hospital has it, empty where it has no such folder."""
    own = _own_folder(dataset, place)
    folder = own or (place.folder / dataset if place.folder is not None else None)
    if folder is None or not folder.is_dir():
        log.info("this hospital has no folder '%s', hence no scans of it", dataset)
        return Findings((), ())
    keep = Keep(partial(fit, size=stream.size, how=stream.fit), cache.put) if cache else None
    notes = place.notes if own is not None or place.common is None else place.common
    with Index(notes / INDEX if notes else None) as index:
        found = index.look_through(dataset, list_scans(folder), SPLIT_SEED, bar("looking into scans", "file"), keep)
    if found.refused and stream.bad_scans == "refuse":
        raise DataError(
            f"{refusals(dataset, found)}: `braincl scans check` lists them; mend or remove them, or set "
            "stream-bad-scans to skip"
        )
    return found


def _read(dataset: str, scans: Sequence[Found], stream: StreamConfig, cache: Cache | None) -> Images:
    """The pixels of scans, several at a time.

    Raises:
        DataError: a file has changed since it was looked into.
    """
    images = np.empty((len(scans), stream.size, stream.size, 3), np.uint8)

    def pixels(scan: Found) -> Images:
        kept = cache.get(scan.known.name, scan.known.version) if cache else None
        if kept is not None:
            return kept
        read = read_scan(scan.entry.path, stream.size, stream.fit, scan.entry.frame)
        if version_of(scan.entry.path) != scan.known.version:
            raise DataError(f"a scan of '{dataset}' has changed since it was looked into: run again")
        return read

    with without_warnings(), ThreadPoolExecutor(READERS) as readers:
        try:
            for row, image in enumerate(readers.map(pixels, scans)):
                images[row] = image
        except ScanRefusedError as error:
            raise DataError(f"a scan of '{dataset}' has changed since it was looked into: {error}") from None
    return images


def _patients(scans: Sequence[Found]) -> npt.NDArray[np.str_] | None:
    """Whose scans they are, as salted hashes of a look; None where nobody says it of any."""
    if all(scan.patient == scan.known.content for scan in scans):
        return None
    return np.array([scan.patient.hex() for scan in scans], np.str_)


def _groups(scans: Sequence[Found]) -> npt.NDArray[np.object_] | None:
    """To which groups of patients they belong; None where nobody says it of any."""
    if not any(scan.entry.groups for scan in scans):
        return None
    groups = np.empty(len(scans), np.object_)
    groups[:] = [scan.entry.groups for scan in scans]
    return groups


def _cache(dataset: str, stream: StreamConfig, place: Place) -> Cache | None:
    if not stream.cache or place.notes is None:
        return None
    return Cache(place.notes / f"{dataset}-{stream.size}-{stream.fit}{SUFFIX}", stream.size)


def _forget_pixels(dataset: str, place: Place) -> None:
    """Take what caches hold of a set off the disk, of this size or another, of this run or one that was killed."""
    if place.notes is not None and place.notes.is_dir():
        for path in place.notes.glob(f"{dataset}-[0-9]*{SUFFIX}"):
            Cache(path, 0).delete()


def sets_in(folder: Path) -> list[Path]:
    """The sets that a folder holds: its subfolders `own` and `own-…`, those of its hospitals, else the folder itself.

    Raises:
        DataError: there is no such folder.
    """
    try:
        if not folder.is_dir():
            raise DataError(f"there is no folder '{folder.name}': name one that has class folders or a manifest.csv")
        here = [path for path in folder.iterdir() if path.is_dir() and is_own(path.name)]
        below = [path for path in folder.glob("site-*/*") if path.is_dir() and is_own(path.name)]
        return sorted(here) + sorted(below) or [folder]
    except OSError as error:
        raise reading_error(folder, error) from error


def refusals(dataset: str, found: Findings) -> str:
    """How many files of a set are no scans to learn from, by kind; no name of any."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.kinds().most_common())
    files = len(found.refused) + len(found.scans)
    return f"{len(found.refused):,} of {files:,} files of '{dataset}' are no scans to learn from ({kinds})"
