"""An audit of vaults: that they hold sound memories and nothing else, and how much these give away.

The report is plain JSON, the same on the terminal, in a file, and in the run store:

    vaults ─┬─ vault, passed, experiments
            ├─ checks     check, passed, detail                       one a kind of check
            ├─ files      file, bytes, records, bits-per-scan, …      one a committed cue file
            └─ fidelity   psnr, ssim, re-identified, scans, tasks     or null when no scans were given
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from braincl_med.foundation.errors import BrainclError, ConfigError, DataError, VaultError
from braincl_med.privacy.accounting import account, suspects
from braincl_med.privacy.committed import contradictions, hidden, read_manifest, strange_texts
from braincl_med.privacy.fidelity import Likeness, likeness
from braincl_med.privacy.given import GivenScans
from braincl_med.privacy.search import Probes, shown
from braincl_med.privacy.undisturbed import undisturbed
from braincl_med.records.store import STORE_NAME, RunStore
from braincl_med.vault.cuefile import CueFile
from braincl_med.vault.erasures import LOG, from_log
from braincl_med.vault.folders import MANIFEST, is_experiment
from braincl_med.vault.vault import Entry, Manifest, Vault
from braincl_med.vault.verify import decoded

MANIFEST_CHECK = "The manifest is intact"
FILES_CHECK = "Every committed file is intact"
CUES_CHECK = "Every cue decodes"
BYTES_CHECK = "Nothing is hidden in a cue file"
FOLDER_CHECK = "Nothing but memories lies in the vault"
SCANS_CHECK = "No raw scan lies in the vault"

MOST_NAMED = 50
"""Problems that one check spells out; more are counted."""
Report = dict[str, Any]


def audit(vaults: Sequence[Path], given: GivenScans | None = None) -> Report:
    """Audit vaults; nothing in them is changed.

    Args:
        vaults: hospitals' vault folders, or folders of one experiment each.
        given: a hospital's raw scans, to be searched for in all the vaults and compared with its recalls.

    Raises:
        VaultError: a folder is missing, or a vault is being written.
        ConfigError: the scans do not say to which of several vaults they belong.
        DataError: the scans are not those that the memories were made of.
    """
    for folder in vaults:
        if not folder.is_dir():
            raise VaultError(
                f"there is no folder '{folder.name}': give a hospital's vault or one experiment's folder"
            )
        if (folder / STORE_NAME).exists():
            raise VaultError(f"'{folder.resolve().name}' is a state root, not a vault: give its site-* folders")
    compared = None
    if given is not None:
        if not given.hospital and len(vaults) > 1:
            raise ConfigError("the scans do not say to which of these vaults they belong: audit that vault alone")
        compared = next((v for v in vaults if given.hospital in ("", _hospital_folder(v).name)), None)
        if compared is None:
            raise DataError(f"the scans are those of hospital {given.hospital!r}: audit the vault of that name")
    return {"vaults": [_VaultAudit(v, given, compare=v is compared).report() for v in vaults]}


def passed(report: Report) -> bool:
    """Whether every vault passed every check."""
    return all(vault["passed"] for vault in report["vaults"])


def record(report: Report, vaults: Sequence[Path], state: Path | None) -> None:
    """Keep the report in the run store of `state`, or of the state roots in which the vaults lie, if any.

    Raises:
        RecordsError: there is no store in `state`, or one cannot be written.
    """
    roots = {_hospital_folder(folder).parent for folder in vaults}
    for root in [state] if state is not None else sorted(r for r in roots if (r / STORE_NAME).is_file()):
        RunStore(root).record_audit(passed(report), report)


def _hospital_folder(folder: Path) -> Path:
    """The hospital's vault folder of `folder`, which is that itself or one experiment's."""
    folder = folder.resolve()
    return folder.parent if is_experiment(folder) else folder


class _VaultAudit:
    """The audit of one vault; every check adds the problems that it finds, each with its place."""

    def __init__(self, folder: Path, given: GivenScans | None, *, compare: bool) -> None:
        self.folder = folder.resolve()
        self.given = given
        self.problems: dict[str, list[str]] = {
            name: [] for name in (MANIFEST_CHECK, FILES_CHECK, CUES_CHECK, BYTES_CHECK, FOLDER_CHECK, SCANS_CHECK)
        }
        self.files: list[dict[str, Any]] = []
        self.unknown: list[Path] = []
        self.accounted = self.cues = 0
        self.searched = ""
        self.likenesses: dict[str, Likeness] = {}
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
            self.experiments = [p for p in inside if p.is_dir() and not p.is_symlink()]
            self._account([p for p in inside if p not in self.experiments])
        if not self.experiments:
            self.problems[MANIFEST_CHECK].append("the folder holds no experiment's memories")
        belongs_to = self.given.experiment if self.given is not None else ""
        if compare and belongs_to not in ("", *(p.name for p in self.experiments)):
            raise DataError(f"the scans are those of experiment {belongs_to!r}, which this vault does not hold")
        for folder in self.experiments:
            with undisturbed(folder):
                self._experiment(folder, compare and belongs_to in ("", folder.name))
        self._raw_scans()

    def report(self) -> Report:
        """The vault's part of the report."""
        found = self.problems
        intact = f"{len(self.files)} {'file' if len(self.files) == 1 else 'files'}"
        outcomes = {
            MANIFEST_CHECK: f"{len(self.experiments)} read, checksums match",
            FILES_CHECK: f"{intact} present, SHA-256, checksum and header as committed",
            CUES_CHECK: f"{self.cues:,} cues decoded, completion networks finite, recalls of the right shape",
            BYTES_CHECK: f"{intact} equal what their own cues and completion networks encode to, byte by byte",
            FOLDER_CHECK: f"{self.accounted} files accounted for",
            SCANS_CHECK: "no file looks like a scan, an array or an archive" + self.searched,
        }
        checks = [
            {"check": name, "passed": not found[name], "detail": _sentence(found[name]) if found[name] else good}
            for name, good in outcomes.items()
        ]
        return {
            "vault": self.folder.name,
            "passed": not any(found.values()),
            "experiments": [p.name for p in self.experiments],
            "checks": checks,
            "files": self.files,
            "fidelity": self._fidelity(),
        }

    def _place(self, path: Path) -> str:
        return shown(path.relative_to(self.folder).as_posix())

    def _experiment(self, folder: Path, compare: bool) -> None:
        vault, (manifest, problems) = Vault(folder), read_manifest(folder)
        self._note(MANIFEST_CHECK, folder / MANIFEST, problems)
        for entry in manifest.entries:
            path = folder / entry.name
            try:
                file = vault.load_entry(entry)
            except VaultError as error:
                place = "" if folder == self.folder else f"in {self._place(folder)}: "
                self.problems[FILES_CHECK].append(f"{place}{error}")
                self.problems[CUES_CHECK].append(f"{self._place(path)} is damaged and was not decoded")
                continue
            self._entry(folder, entry, file)
            if self._decode(path, file) and compare and file.records:
                assert self.given is not None
                name = f"{folder.name}/{file.header.task_name}"
                self.likenesses[name] = likeness(file, self.given.scans)
        self._account(sorted(folder.iterdir()), {e.name for e in manifest.entries} | self._log(folder, manifest))

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

    def _entry(self, folder: Path, entry: Entry, file: CueFile) -> None:
        """Compare a committed file with what the manifest says of it."""
        path = folder / entry.name
        size = path.stat().st_size
        self._note(FILES_CHECK, path, contradictions(path, entry, file))
        records = file.records
        self.files.append(
            {
                "file": path.relative_to(self.folder).as_posix(),
                "bytes": size,
                "records": records,
                "bits-per-scan": 8 * len(file.payload) / records if records else 0.0,
                "all-in-bits-per-scan": 8 * size / records if records else 0.0,
            }
        )

    def _decode(self, path: Path, file: CueFile) -> bool:
        """Decode a file as a hospital would, and encode it again: nothing else may be in it."""
        try:
            _, cues = decoded(file)
            problems = hidden(path.read_bytes(), file, cues)
        except BrainclError as error:
            self.problems[CUES_CHECK].append(f"{self._place(path)} does not decode: {error}")
            return False
        self.cues += file.records
        self._note(BYTES_CHECK, path, problems)
        return True

    def _note(self, check: str, path: Path, problems: Sequence[str]) -> None:
        self.problems[check] += [f"{self._place(path)} {problem}" for problem in problems]

    def _account(self, inside: Sequence[Path], committed: set[str] | None = None) -> None:
        found = account(inside, committed, self._place)
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


def _sentence(problems: Sequence[str]) -> str:
    more = len(problems) - MOST_NAMED
    return "; ".join(problems[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
