"""What a request to erase means in a vault of several experiments and tasks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from braincl_med.foundation.errors import VaultError
from braincl_med.vault.erasures import Erasure
from braincl_med.vault.refit import FEWEST_LEFT, basis_of_scans
from braincl_med.vault.subset import positions_without
from braincl_med.vault.vault import Vault


@dataclass(frozen=True)
class Request:
    """Records of one class of one task that are to be erased.

    Attributes:
        vault: that holds them.
        task, dataset_label: whose records.
        ordinals: which ones, see `Shard`; the whole class when None.
        records: how many.
    """

    vault: Vault
    task: int
    dataset_label: str
    ordinals: tuple[int, ...] | None
    records: int

    def __str__(self) -> str:
        records = f"{self.records:,} {'record' if self.records == 1 else 'records'}"
        return f"{records} of class '{self.dataset_label}' in task {self.task} of '{self.vault.folder.name}'"

    def carry_out(self) -> Erasure:
        """Erase them.

        Raises:
            VaultError: see `Vault.erase`.
        """
        return self.vault.erase(self.task, self.dataset_label, self.ordinals)


def warnings(requests: Sequence[Request]) -> list[str]:
    """One sentence a task of which some records would stay, but too few to hide those that are erased.

    Raises:
        VaultError: see `Vault.load`.
    """
    erased: Counter[tuple[Vault, int]] = Counter()
    for request in requests:
        erased[request.vault, request.task] += request.records
    said = []
    for (vault, task), records in erased.items():
        file = vault.load(task)
        left = file.records - records
        if not 0 < left < FEWEST_LEFT:
            continue
        keeps = f"task {task} of '{vault.folder.name}' would keep {left:,} {'record' if left == 1 else 'records'}"
        if basis_of_scans(file.shape):
            said.append(f"{keeps}: its memory will be fitted anew to them, and their recalls lose a little")
        else:
            said.append(
                f"warning: {keeps}; where fewer than {FEWEST_LEFT} stay they may let the erased scan be rebuilt: "
                "erase the whole task"
            )
    return said


def whole_class(vaults: Sequence[Vault], dataset_label: str, task: int | None = None) -> list[Request]:
    """Requests to erase a class from every task of these experiments, or from one task of each.

    Raises:
        VaultError: none of them holds the class; says which classes they hold.
    """
    requests, held = [], []
    for vault in vaults:
        for number in [e.task for e in vault.manifest().entries if task in (None, e.task)]:
            for shard in vault.load(number).header.shards:
                held.append(f"{shard.dataset_label} (task {number} of '{vault.folder.name}')")
                if shard.dataset_label == dataset_label:
                    requests.append(Request(vault, number, dataset_label, None, shard.records))
    if not requests:
        place = "the vault" if task is None else f"task {task}"
        raise VaultError(f"{place} holds no class '{dataset_label}': it holds {', '.join(held) or 'none'}")
    return requests


def single_records(vaults: Sequence[Vault], records: Sequence[str], task: int) -> list[Request]:
    """Requests to erase single records of one task, one request a class.

    Args:
        vaults: of one experiment.
        records: each as `dataset/label:ordinal`.
        task: whose records; ordinals count within a task.

    Raises:
        VaultError: there are several experiments, or the task does not hold them all; says what it holds.
    """
    if len(vaults) > 1:
        names = ", ".join(f"'{vault.folder.name}'" for vault in vaults)
        raise VaultError(f"a record is one of a single experiment, the vault holds {names}: give one's folder")
    by_class: dict[str, set[int]] = {}
    for record in records:
        dataset_label, _, ordinal = record.rpartition(":")
        if not dataset_label or not ordinal.isascii() or not ordinal.isdigit():
            raise VaultError(f"'{record}' names no record: give dataset/label:ordinal, such as bloodmnist/2:17")
        by_class.setdefault(dataset_label, set()).add(int(ordinal))
    vault = vaults[0]
    file = vault.load(task)
    for dataset_label, ordinals in by_class.items():
        positions_without(file, dataset_label, ordinals)
    return [Request(vault, task, label, tuple(sorted(found)), len(found)) for label, found in by_class.items()]
