"""An audit of vaults: that they hold sound memories and nothing else, and how much these give away.

The report is plain JSON, the same on the terminal, in a file, and in the run store:

    version
    vaults ─┬─ vault, passed, experiments
            ├─ checks     check, passed, detail                       one a kind of check
            ├─ files      file, stored, bytes, records, …             one a committed cue file
            ├─ manifests  experiment: SHA-256, which vouches for all its files
            ├─ fidelity   psnr, ssim, re-identified, scans, tasks     or null when no scans were given
            └─ attacks    see `attacked`, one an experiment           none when no scans or no time was given
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from braincl_med.foundation.errors import ConfigError, VaultError
from braincl_med.foundation.version import program_version
from braincl_med.privacy.attacked import Attacks
from braincl_med.privacy.checks.identifiers import NO_IDENTIFIERS, Identifiers
from braincl_med.privacy.checks.state import state_problems
from braincl_med.privacy.checks.titles import FIT_CHECK, sentence
from braincl_med.privacy.given import GivenScans
from braincl_med.privacy.search import Probes
from braincl_med.privacy.shared import known_of
from braincl_med.privacy.vault_audit import Report, VaultAudit, hospital_folder
from braincl_med.records.database import STORE_NAME
from braincl_med.records.store import RunStore
from braincl_med.vault.keys import NO_KEYS, Keys


def audit(
    vaults: Sequence[Path],
    given: GivenScans | None = None,
    keys: Keys = NO_KEYS,
    identifiers: Identifiers = NO_IDENTIFIERS,
    state: Path | None = None,
    minutes: float = 0,
) -> Report:
    """Audit vaults; nothing in them is changed.

    Args:
        vaults: hospitals' vault folders, or folders of one experiment each.
        given: a hospital's raw scans, to be searched for in all the vaults and compared with its recalls.
        keys: of all the vaults. What they do not open cannot be decoded, which fails the checks that ask for it.
        identifiers: strings that must be nowhere.
        state: the state root of the run that wrote them: what else lies there is looked at too, names must be those
            of its run store, and its shared network is attacked; without it that of the folder above the vault is.
        minutes: for attacks by which the given scans are looked for; none at 0.

    Raises:
        VaultError: a folder is missing, or a vault is being written.
        ConfigError: the scans do not say to which of several vaults they belong.
        RecordsError: there is no run store in `state`.
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
        compared = next((v for v in vaults if given.hospital in ("", hospital_folder(v).name)), None)
    audits = [VaultAudit(v, given, keys, identifiers, state, compare=v is compared) for v in vaults]
    if given is not None and compared is None:
        audits[0].problems[FIT_CHECK].append(f"they are those of hospital {given.hospital!r}, which is not audited")
    for number, mine in enumerate(audits):
        mine.refuse_shared([other for place, other in enumerate(audits) if place != number])
    rows = [mine.report() for mine in audits]
    for one, part in zip(audits, rows, strict=True):
        if given is not None and minutes and one.likenesses:
            others = [other for other in audits if other is not one]
            root = state or hospital_folder(one.folder).parent
            part["attacks"] = list(_attacks(one, others, given, root, minutes))
    if state is not None:
        rows.append(_of_state(state, identifiers, None if given is None else Probes(given.scans.images)))
    return {"version": program_version(), "vaults": rows}


def _of_state(state: Path, identifiers: Identifiers, probes: Probes | None) -> dict[str, Any]:
    """The report's row of all that lies below a state root beside vaults."""
    found = state_problems(state.resolve(), identifiers, probes)
    checks = [
        {"check": name, "passed": not problems, "detail": sentence(problems) or "nothing was found"}
        for name, problems in found.items()
    ]
    return {
        "vault": f"state root {state.resolve().name}",
        "passed": not any(found.values()),
        "experiments": [],
        "checks": checks,
        "files": [],
        "fidelity": None,
        "manifests": {},
        "attacks": [],
    }


def _attacks(
    audited: "VaultAudit", others: Sequence["VaultAudit"], given: GivenScans, state: Path, minutes: float
) -> Iterator[Report]:
    """Attack every experiment whose scans were given; they share the time."""
    for experiment in audited.compared:
        theirs = next((other.decoded[experiment] for other in others if experiment in other.decoded), {})
        known = known_of(state, experiment)
        share = minutes / len(audited.compared)
        attacks = Attacks(audited.decoded[experiment], given.scans, share, given.strangers, theirs, known)
        yield attacks.report(experiment)


def passed(report: Report) -> bool:
    """Whether every vault passed every check."""
    return all(vault["passed"] for vault in report["vaults"])


def record(report: Report, vaults: Sequence[Path], state: Path | None) -> None:
    """Keep the report in the run store of `state`, or of the state roots in which the vaults lie, if any.

    Raises:
        RecordsError: there is no store in `state`, or one cannot be written.
    """
    roots = {hospital_folder(folder).parent for folder in vaults}
    for root in [state] if state is not None else sorted(r for r in roots if (r / STORE_NAME).is_file()):
        RunStore(root).record_audit(passed(report), without_worst(report))


def without_worst(report: Report) -> Report:
    """The report without single scans: these are shown to the hospital alone, in the file that it writes."""
    vaults = [
        {**vault, "attacks": [{key: part for key, part in one.items() if key != "worst"} for one in vault["attacks"]]}
        for vault in report["vaults"]
    ]
    return {**report, "vaults": vaults}
