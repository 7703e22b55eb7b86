"""One vault's part of an audit: every check adds the problems that it finds, each with its place."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from braincl_med.dp.ledger import FOLDER as LEDGER
from braincl_med.federation.seen import FOLDER
from braincl_med.foundation.errors import BrainclError, DataError, SealedError, VaultError
from braincl_med.foundation.files import sha256_of
from braincl_med.privacy.accounting import Accounted, account, suspects, wide
from braincl_med.privacy.checks.attached import attached
from braincl_med.privacy.checks.components import MOST_ROWS, shown_scans, unused
from braincl_med.privacy.checks.identifiers import Identifiers
from braincl_med.privacy.checks.registry import Known, known
from braincl_med.privacy.checks.titles import (
    ATTACHED_CHECK,
    BYTES_CHECK,
    CHECKS,
    CUES_CHECK,
    FILES_CHECK,
    FIT_CHECK,
    FOLDER_CHECK,
    IDENTIFIERS_CHECK,
    MANIFEST_CHECK,
    MODES_CHECK,
    MOST_NAMED,
    NAMES_CHECK,
    SCANS_CHECK,
    SEAL_CHECK,
    SHOWN_CHECK,
    UNUSED_CHECK,
    WITH_SCANS,
    WITH_STATE,
    sentence,
)
from braincl_med.privacy.committed import contradictions, hidden, read_manifest, strange_texts
from braincl_med.privacy.fidelity import Likeness, paired
from braincl_med.privacy.given import GivenScans
from braincl_med.privacy.released import accounted_releases
from braincl_med.privacy.remembered import remembered
from braincl_med.privacy.search import Probes, shown
from braincl_med.privacy.undisturbed import undisturbed
from braincl_med.streams.own import INDEX
from braincl_med.streams.place import NOTES
from braincl_med.vault.cuefile import CueFile
from braincl_med.vault.erasures import LOG, from_log
from braincl_med.vault.folders import MANIFEST, is_experiment
from braincl_med.vault.keys import Keys
from braincl_med.vault.manifest import Entry, Manifest
from braincl_med.vault.subset import ordinals_of
from braincl_med.vault.vault import Vault
from braincl_med.vault.verify import check_unopened, decoded

Report = dict[str, Any]


def hospital_folder(folder: Path) -> Path:
    """The hospital's vault folder of `folder`, which is that itself or one experiment's."""
    folder = folder.resolve()
    return folder.parent if is_experiment(folder) else folder


class VaultAudit:
    """The audit of one vault; every check adds the problems that it finds, each with its place."""

    def __init__(
        self,
        folder: Path,
        given: GivenScans | None,
        keys: Keys,
        identifiers: Identifiers,
        state: Path | None,
        *,
        compare: bool,
    ) -> None:
        self.folder = folder.resolve()
        self.given = given
        self.keys = keys
        self.identifiers = identifiers
        self.state = state
        asked = (*(WITH_SCANS if given is not None else ()), *(WITH_STATE if state is not None else ()))
        self.problems: dict[str, list[str]] = {name: [] for name in (*CHECKS, *asked)}
        self.committed: dict[str, Path] = {}
        self.stored: Counter[str] = Counter()
        self.files: list[dict[str, Any]] = []
        self.unknown: list[Path] = []
        self.accounted = self.cues = self.unopened = 0
        self.searched = ""
        self.likenesses: dict[str, Likeness] = {}
        self.decoded: dict[str, dict[str, CueFile]] = {}
        self.compared: list[str] = []
        try:
            self._look(compare)
        except OSError as error:
            raise VaultError(
                f"'{self.folder.name}' cannot be read: {os.strerror(error.errno or 0).lower()}"
            ) from error

    def _look(self, compare: bool) -> None:
        if is_experiment(self.folder):
            self.experiments = [self.folder]
        else:
            inside = sorted(self.folder.iterdir())
            folders = [p for p in inside if p.is_dir() and not p.is_symlink()]
            self.experiments = [p for p in folders if p.name not in (FOLDER, NOTES, LEDGER)]
            self._account([p for p in inside if p not in folders])
            for notes in [p for p in folders if p.name == NOTES]:
                # Salted hashes of files' names and contents; pixels beside them are somebody's scans.
                self._account(sorted(notes.iterdir()), {INDEX, f"{INDEX}-journal"})
            for ledger in [p for p in folders if p.name == LEDGER]:
                self._tally(accounted_releases(ledger, self._place))
            for folder in [p for p in folders if p.name == FOLDER]:
                self._tally(remembered(folder, self._place))
        if not self.experiments:
            self.problems[MANIFEST_CHECK].append("the folder holds no experiment's memories")
        belongs_to = self.given.experiment if self.given is not None else ""
        if compare and belongs_to not in ("", *(p.name for p in self.experiments)):
            self.problems[FIT_CHECK].append(f"they are those of experiment {belongs_to!r}, which is not here")
        for folder in self.experiments:
            with undisturbed(folder):
                self._experiment(folder, compare and belongs_to in ("", folder.name))
        self._seals()
        self.problems[MODES_CHECK] += wide(self.folder, self._place)
        self.problems[ATTACHED_CHECK] += attached(self.folder, self._place)
        self._identifiers()
        self._raw_scans()

    def report(self) -> Report:
        """The vault's part of the report."""
        found = self.problems
        intact = f"{len(self.files)} {'file' if len(self.files) == 1 else 'files'}"
        outcomes = {
            MANIFEST_CHECK: f"{len(self.experiments)} read, checksums match",
            FILES_CHECK: f"{intact} present, SHA-256, checksum and header as committed"
            + (f"; of {self.unopened} sealed ones SHA-256 and place alone" if self.unopened else ""),
            CUES_CHECK: f"{self.cues:,} cues decoded, completion networks finite, recalls of the right shape",
            BYTES_CHECK: f"{intact} equal what their own cues and completion networks encode to, byte by byte",
            SEAL_CHECK: self._met(),
            MODES_CHECK: "all folders have mode 0700 and all files 0600, or less",
            FOLDER_CHECK: f"{self.accounted} files accounted for",
            SCANS_CHECK: "no file looks like a scan, an array or an archive" + self.searched,
            UNUSED_CHECK: "the networks hold none that serves no recall",
            SHOWN_CHECK: f"no {MOST_ROWS} of a network's rows show one better by more than their own freedom allows",
            FIT_CHECK: f"{sum(len(found.psnr) for found in self.likenesses.values()):,} were compared",
            NAMES_CHECK: "tasks, classes and keys are known there",
            IDENTIFIERS_CHECK: f"no DICOM tag, EXIF or path, none of {len(self.identifiers):,} given strings",
            ATTACHED_CHECK: "no attribute, no access list, no second name",
        }
        checks = [
            {"check": name, "passed": not found[name], "detail": sentence(found[name]) if found[name] else good}
            for name, good in outcomes.items()
            if name in found
        ]
        return {
            "vault": self.name,
            "passed": not any(found.values()),
            "experiments": [p.name for p in self.experiments],
            "checks": checks,
            "files": self.files,
            "manifests": {
                path.parent.name: sha256_of(path.read_bytes())
                for path in (folder / MANIFEST for folder in self.experiments)
                if path.is_file()
            },
            "fidelity": self._fidelity(),
            "attacks": [],
        }

    @property
    def name(self) -> str:
        """The hospital's folder, and the experiment's where that alone is audited."""
        hospital = hospital_folder(self.folder)
        return hospital.name if hospital == self.folder else f"{hospital.name}/{self.folder.name}"

    def _place(self, path: Path) -> str:
        if path == self.folder:
            return shown(path.name)
        return shown(path.relative_to(self.folder).as_posix())

    def _experiment(self, folder: Path, compare: bool) -> None:
        vault, (manifest, problems) = Vault(folder, self.keys), read_manifest(folder)
        self._note(MANIFEST_CHECK, folder / MANIFEST, problems)
        recorded = self._recorded(folder)
        for entry in manifest.entries:
            path = folder / entry.name
            self.stored[entry.stored] += 1
            try:
                file = self._opened(vault, entry)
            except VaultError as error:
                place = "" if folder == self.folder else f"in {self._place(folder)}: "
                self.problems[FILES_CHECK].append(f"{place}{error}")
                self.problems[CUES_CHECK].append(f"{self._place(path)} is damaged and was not decoded")
                continue
            if file is None:
                continue
            self._entry(vault, entry, file)
            if recorded is not None:
                self._note(NAMES_CHECK, path, [*recorded.strange(file.header, hospital_folder(folder).name)])
            if not self._decode(vault, entry, file) or not file.records:
                continue
            self.decoded.setdefault(folder.name, {})[file.header.task_name] = file
            if compare:
                self._compare(path, file)
        names = {name for entry in manifest.entries for name in entry.names}
        self._account(sorted(folder.iterdir()), names | self._log(folder, manifest))
        if vault.networks != folder and vault.networks.is_dir():
            self._networks(vault, names)

    def _recorded(self, folder: Path) -> Known | None:
        """What the run store says of an experiment; None where it says nothing or was not asked."""
        if self.state is None:
            return None
        found = known(self.state, folder.name, hospital_folder(folder).name)
        if isinstance(found, Known):
            return found
        self._note(NAMES_CHECK, folder, [f"is in none of its experiments ({found})"])
        return None

    def _compare(self, path: Path, file: CueFile) -> None:
        """Compare recalls with the scans that they stand for, and the network's rows with both."""
        assert self.given is not None
        try:
            pairs = paired(file, self.given.scans)
        except DataError as error:
            self._note(FIT_CHECK, path, [f"does not fit them: {error}"])
            return
        self.likenesses[f"{path.parent.name}/{file.header.task_name}"] = pairs.likeness()
        self.compared = list(dict.fromkeys([*self.compared, path.parent.name]))
        found = shown_scans(file.network(), pairs.recalls, pairs.originals[pairs.own])
        records = [f"{s.dataset_label}:{ordinal}" for s in file.header.shards for ordinal in ordinals_of(s)]
        self._note(SHOWN_CHECK, path, [one.said(records) for one in found])

    def refuse_shared(self, others: Sequence["VaultAudit"]) -> None:
        """Refuse memories that another audited vault holds too: a key names one hospital's memory of one task."""
        for other in others:
            for key in sorted(self.committed.keys() & other.committed.keys()):
                place = other.name
                self._note(
                    FILES_CHECK, self.committed[key], [f"is also in vault {place!r}: one of both is another's"]
                )

    def _identifiers(self) -> None:
        """Search all files as they lie there, and what sealed ones hold."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                name = path.relative_to(self.folder).as_posix().encode()
                told = self.identifiers.findings(name, paths=False)
                self._note(IDENTIFIERS_CHECK, path, [what.replace("holds", "is named by", 1) for what in told])
                self._note(IDENTIFIERS_CHECK, path, self.identifiers.findings(path.read_bytes()))

    def _log(self, folder: Path, manifest: Manifest) -> set[str]:
        """The name of the log of erasures, unless it is not the one that the manifest commits."""
        path = folder / LOG
        try:
            erasures = from_log(path.read_bytes() if path.is_file() else b"", manifest.erased)
        except VaultError as error:
            self.problems[FOLDER_CHECK].append(f"{self._place(path)} is refused ({error})")
            return set()
        for erasure in erasures:
            self._note(FOLDER_CHECK, path, strange_texts(key=erasure.key, dataset_label=erasure.dataset_label))
        return {LOG}

    def _networks(self, vault: Vault, committed: set[str]) -> None:
        """Look at the folder of completion networks that lie apart."""

        def place(path: Path) -> str:
            return shown(path.relative_to(vault.networks.parent).as_posix())

        strangers = [path for path in sorted(vault.networks.iterdir()) if path.name not in committed]
        self.problems[FOLDER_CHECK] += [f"{place(path)} lies among the networks" for path in strangers]
        self.problems[MODES_CHECK] += wide(vault.networks, place)

    def _opened(self, vault: Vault, entry: Entry) -> CueFile | None:
        """A committed file; None for a sealed one whose keys were not given, which leaves checks undone.

        Raises:
            VaultError: it is not the one that was committed.
        """
        try:
            return vault.load_entry(entry)
        except SealedError as error:
            check_unopened(vault, entry)
            self.unopened += 1
            path = vault.folder / entry.name
            self.problems[CUES_CHECK].append(f"{self._place(path)} was not decoded ({error})")
            self.problems[BYTES_CHECK].append(f"{self._place(path)} was not opened")
            size = sum(committed.stat().st_size for committed in vault.paths(entry))
            self.files.append(self._row(vault, entry, size, 0, 0))
            return None

    def _seals(self) -> None:
        """Refuse plain memories where some are sealed, or where there is a key to seal them with."""
        plain, all_of_them = self.stored["plain"], sum(self.stored.values())
        if plain and (self.keys.vault is not None or plain < all_of_them):
            self.problems[SEAL_CHECK].append(
                f"{plain} of {all_of_them} are plain, though there is a key: seal them with `braincl vault seal`"
            )

    def _met(self) -> str:
        """How memories are stored, in words."""
        return ", ".join(f"{count} {how}" for how, count in sorted(self.stored.items())) or "there are none"

    def _row(self, vault: Vault, entry: Entry, size: int, records: int, payload: int) -> dict[str, Any]:
        """What the report says of a committed file."""
        return {
            "file": (vault.folder / entry.name).relative_to(self.folder).as_posix(),
            "stored": entry.stored,
            "bytes": size,
            "records": records,
            "bits-per-scan": 8 * payload / records if records else 0.0,
            "all-in-bits-per-scan": 8 * size / records if records else 0.0,
        }

    def _entry(self, vault: Vault, entry: Entry, file: CueFile) -> None:
        """Compare a committed file with what the manifest says of it."""
        path = vault.folder / entry.name
        self.committed[entry.key] = path
        self._note(FILES_CHECK, path, contradictions(path, entry, file))
        if entry.seal is not None:
            self._note(IDENTIFIERS_CHECK, path, self.identifiers.findings(file.to_bytes()))
        size = sum(committed.stat().st_size for committed in vault.paths(entry))
        self.files.append(self._row(vault, entry, size, file.records, len(file.payload)))

    def _decode(self, vault: Vault, entry: Entry, file: CueFile) -> bool:
        """Decode a file as a hospital would, and encode it again: nothing else may be in it."""
        path = vault.folder / entry.name
        try:
            _, cues = decoded(file)
            problems = hidden(vault.plain(entry), file, cues)
        except BrainclError as error:
            self.problems[CUES_CHECK].append(f"{self._place(path)} does not decode: {error}")
            return False
        self.cues += file.records
        self._note(BYTES_CHECK, path, problems)
        if idle := unused(file, cues):
            named = ", ".join(map(str, idle[:MOST_NAMED]))
            self._note(UNUSED_CHECK, path, [f"has component {named}, which no record uses (`braincl vault tidy`)"])
        return True

    def _note(self, check: str, path: Path, problems: Sequence[str]) -> None:
        self.problems[check] += [f"{self._place(path)} {problem}" for problem in problems]

    def _account(self, inside: Sequence[Path], committed: set[str] | None = None) -> None:
        self._tally(account(inside, committed, self._place))

    def _tally(self, found: Accounted) -> None:
        self.accounted += found.own
        self.problems[FOLDER_CHECK] += found.problems
        self.unknown += found.unknown

    def _raw_scans(self) -> None:
        """Judge every unknown file by its content, and search all files for the given scans."""
        problems = self.problems[SCANS_CHECK]
        problems += suspects(self.unknown, self._place)
        if self.given is not None:
            probes = Probes(self.given.scans.images)
            problems += probes.findings(self.folder)
            self.searched = f"; searched for {probes.scans - probes.blank:,} given scans and found none" + (
                f", {probes.blank:,} more are blank" if probes.blank else ""
            )

    def _fidelity(self) -> dict[str, Any] | None:
        if not self.likenesses:
            return None
        tasks = [{"task": name, **found.as_json()} for name, found in self.likenesses.items()]
        return {**Likeness.join(list(self.likenesses.values())).as_json(), "tasks": tasks}
