"""A hospital's ledger of what it has released, over all experiments, tasks, rounds and runs.

    <hospital>/.privacy/ledger.json              every release, in order
                        <experiment>.<order>.release     answers as they were sent; of large ones the last

A release is entered before its noise is drawn, so one that was interrupted counts. Its answer lies beside the ledger,
so the same order is answered by the same numbers and is one release.

The same scan belongs to one class, and is released with it alone: classes compose in parallel. A patient may have
scans of several, so where patients are known all releases count together. Test scans have accounts of their own:
they are others than training scans, and where patients are known also of other patients.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from braincl_med.dp.accountant import Spent, epsilon
from braincl_med.foundation.errors import PrivacyError, VaultError
from braincl_med.foundation.files import canonical_json, locked, make_private, reading_error, sha256_of, write_whole

FOLDER = ".privacy"
"""The ledger's folder beside a hospital's experiments; no experiment has such a name."""
NAME = "ledger.json"
SUFFIX = ".release"
LARGEST_KEPT = 2**20
"""Bytes of an answer that is kept for good."""
VERSION = 1
ROUNDING = 1e-9
"""By which ε may pass its budget: a release that is made to cost the whole of it was found by halving."""
Kind = Literal["training", "test"]
Unit = Literal["scan", "patient"]


class Entry(BaseModel):
    """One release.

    Attributes:
        order: SHA-256 of what was asked.
        experiment, task, phase, round: of the order, for who reads it.
        scans: which were read.
        classes: theirs, as `dataset/label`.
        unit: what is protected: one scan, or all scans of a patient.
        multiplier, rate, steps: as in `accountant.Spent`.
        answer: SHA-256 of the answer's file; empty while it is being made, and for what was interrupted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    order: str
    experiment: str
    task: int = Field(ge=0)
    phase: str
    round: int = Field(ge=0)
    scans: Kind
    classes: tuple[str, ...]
    unit: Unit
    multiplier: float = Field(gt=0)
    rate: float = Field(default=1, gt=0, le=1)
    steps: int = Field(default=1, ge=1)
    answer: str = ""

    @property
    def spent(self) -> Spent:
        """What it cost."""
        return Spent(self.multiplier, self.rate, self.steps)


class _Entries(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["braincl-ledger"] = "braincl-ledger"
    version: Literal[1] = 1
    entries: tuple[Entry, ...] = ()


def cost(entries: Sequence[Entry], delta: float) -> float:
    """The ε at `delta` of the scan, or patient, that these releases tell most of."""
    accounts = []
    for scans in ("training", "test"):
        mine = [entry for entry in entries if entry.scans == scans]
        if any(entry.unit == "patient" for entry in mine):
            accounts.append(mine)
        else:
            classes = {key for entry in mine for key in entry.classes}
            accounts += [[entry for entry in mine if key in entry.classes] for key in classes]
    different = {tuple(entry.spent for entry in account) for account in accounts}
    return max((epsilon(spent, delta) for spent in different), default=0.0)


class Ledger:
    """The ledger in a hospital's folder.

    Args:
        hospital: the folder of its vaults.
        budget: the ε that no release may pass.
        delta: at which ε is counted.
    """

    def __init__(self, hospital: Path, budget: float, delta: float) -> None:
        self.folder = hospital / FOLDER
        self.budget = budget
        self.delta = delta

    def entries(self) -> tuple[Entry, ...]:
        """All releases so far; none where there is no ledger.

        Raises:
            VaultError: it is damaged, older than answers beside it, or this user may not read it: without it nothing
                is released.
        """
        # Looked for first, for another process may be adding one; it is entered before it lies there.
        beside = {path.name for path in self.folder.glob(f"*{SUFFIX}")}
        entries = self._read()
        if beside - {self._answer(entry.experiment, entry.order).name for entry in entries}:
            raise VaultError(
                f"'{NAME}' is missing or older than the answers beside it, and what was released since would not "
                "count: bring the latest one back"
            )
        return entries

    def _read(self) -> tuple[Entry, ...]:
        path = self.folder / NAME
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise reading_error(path, error) from error
        try:
            sealed = json.loads(content)
            if sha256_of(canonical_json(sealed["ledger"])) != sealed["sha256"]:
                raise VaultError(f"'{NAME}' was changed or damaged: its checksum does not match; bring it back")
            return _Entries.model_validate_json(canonical_json(sealed["ledger"])).entries
        except (ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
            raise VaultError(f"'{NAME}' is no ledger of releases ({type(error).__name__}): bring it back") from None

    def epsilon(self) -> float:
        """The ε spent so far."""
        return cost(self.entries(), self.delta)

    def answered(self, order: str, experiment: str) -> dict[str, Tensor] | None:
        """The tensors that this very order was answered with, None if it was not, or another one since.

        Raises:
            VaultError: the ledger cannot be trusted.
        """
        entry = next((e for e in reversed(self.entries()) if e.order == order and e.experiment == experiment), None)
        if entry is None or not entry.answer:
            return None
        try:
            content = self._answer(experiment, order).read_bytes()
            return load_tensors(content) if sha256_of(content) == entry.answer else None
        except (OSError, SafetensorError):
            return None

    def enter(self, entry: Entry) -> None:
        """Count a release that is about to be made.

        Raises:
            PrivacyError: it would pass the budget: it must not be made.
            VaultError: the ledger cannot be trusted or written.
        """
        self._prepare()
        with locked(self.folder, "the ledger of releases"):
            entries = (*self.entries(), entry)
            would = cost(entries, self.delta)
            if would > self.budget * (1 + ROUNDING):
                raise PrivacyError(
                    f"{entry.phase} of task {entry.task + 1} was not released: it would bring ε from "
                    f"{cost(entries[:-1], self.delta):.2f} to {would:.2f}, this hospital allows {self.budget:g} "
                    "(privacy-epsilon)"
                )
            self._write(entries)

    def keep(self, order: str, experiment: str, answer: dict[str, Tensor]) -> None:
        """Keep what an entered release is answered with, so that it can be sent again.

        Whole networks would fill the disk: of an experiment's large answers only the last is kept.
        """
        content = save_tensors({name: tensor.contiguous() for name, tensor in answer.items()})
        with locked(self.folder, "the ledger of releases"):
            entries = list(self.entries())
            last = max(i for i, e in enumerate(entries) if e.order == order and e.experiment == experiment)
            write_whole(self._answer(experiment, order), content)
            entries[last] = entries[last].model_copy(update={"answer": sha256_of(content)})
            self._write(entries)
            for path in self.folder.glob(f"{experiment}.*{SUFFIX}"):
                if path != self._answer(experiment, order) and path.stat().st_size > LARGEST_KEPT:
                    path.unlink()

    def _answer(self, experiment: str, order: str) -> Path:
        return self.folder / f"{experiment}.{order[:16]}{SUFFIX}"

    def _prepare(self) -> None:
        make_private(self.folder.parent)
        make_private(self.folder)

    def _write(self, entries: Sequence[Entry]) -> None:
        body = _Entries(entries=tuple(entries)).model_dump(mode="json")
        write_whole(self.folder / NAME, canonical_json({"ledger": body, "sha256": sha256_of(canonical_json(body))}))
