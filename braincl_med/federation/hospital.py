"""One hospital: its scans, its vault, and what it answers to orders. Knows nothing of Flower."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from braincl_med.dp.ledger import Ledger
from braincl_med.federation.masks import MaskedSite, Masks
from braincl_med.federation.received import objection_to_order
from braincl_med.federation.seen import FOLDER, read_seen, write_seen
from braincl_med.foundation.arrays import Images
from braincl_med.foundation.errors import (
    BrainclError,
    ConfigError,
    DataError,
    FederationError,
    MissingScansError,
    PrivacyError,
)
from braincl_med.foundation.files import narrow, storage_error
from braincl_med.foundation.seeding import seed_everything, seed_for
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods import METHODS
from braincl_med.methods.base import Method
from braincl_med.methods.examine import EXAMINE, objection_to_examining
from braincl_med.methods.kept import Kept
from braincl_med.methods.phase import Phase
from braincl_med.methods.publish import publish, require_bounded
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.memory import LinearMemory
from braincl_med.settings.privacy import ALLOWED_DELTA
from braincl_med.streams.catalogue import parse_class
from braincl_med.streams.named import build_registry, unknown_sets
from braincl_med.streams.source import ScanSource
from braincl_med.streams.tasks import Registry, Scans, TaskSpec
from braincl_med.vault.keys import Keys
from braincl_med.vault.vault import Vault

log = logging.getLogger("braincl")


@dataclass(frozen=True)
class Hospital:
    """A hospital in one experiment: the `Site` at which phases run.

    Attributes:
        name: as it appears in records, for example `site-0`.
        config: the experiment.
        source: its scans; of its training scans BrainCL reads each once, in `encode`.
        vault: its memories.
        allowance: the ε that this hospital allows where that is less than the experiment's `privacy-epsilon`.
        masks: what it needs where updates are summed under masks.
    """

    name: str
    config: ExperimentConfig
    source: ScanSource
    vault: Vault
    allowance: float | None = None
    masks: Masks | None = None

    def answer(self, order: Order) -> Report:
        """Carry out one step; whatever goes wrong becomes one sentence without path or traceback."""
        try:
            phase = self.permitted(order)
            if self.config.federation.masked:
                return self._masked_site().answer(order, phase, lambda: self._carried_out(order, phase))
            if order.masking:
                raise FederationError(f"{phase.name} came with masks, and here federation-masking is off")
            return self._carried_out(order, phase)
        except BrainclError as error:
            log.error("%s: %s failed: %s", self.name, order.phase, error)
            return Report(self.name, failure=self._told(order, error))
        except (MemoryError, torch.OutOfMemoryError):
            return Report(self.name, failure=f"{order.phase} needs more memory than this hospital's machine has")
        except Exception as error:
            log.exception("%s: %s failed", self.name, order.phase)
            return Report(self.name, failure=f"unexpected {type(error).__name__} in {order.phase}; see the local log")

    def _told(self, order: Order, error: BrainclError) -> str:
        """What may be said of an error: under privacy nothing that was found in scans or in the vault, such as how
        many files are no scans.
        """
        if self.config.privacy.mode == "off" or isinstance(error, ConfigError | FederationError | PrivacyError):
            return str(error)
        return f"{type(error).__name__} in {order.phase[:40]}; under privacy the local log alone says more"

    def _carried_out(self, order: Order, phase: Phase) -> Report:
        """The report of a step, as it may be sent where nothing is masked."""
        folder = self.vault.folder.parent / FOLDER / self.config.name
        seen = read_seen(folder)
        if reason := objection_to_order(order, phase, self.method, self.config.cortex) or seen.objection(order):
            raise FederationError(f"what the server sent with {phase.name} cannot be used: {reason}")
        require_bounded(phase, self.config.privacy.mode)
        self._narrow_vault()
        write_seen(folder, seen.after(order))
        seed_everything(self.seed(order))
        return publish(self, phase, order, phase.run(self, order))

    def _masked_site(self) -> MaskedSite:
        if self.masks is None:
            raise FederationError(
                "this hospital pins no identities of others, and federation-masking is on: start its node with "
                "--node-config 'masking-identities=\"/…\"'"
            )
        return MaskedSite(self.name, self.config, self.method, self.masks)

    def _narrow_vault(self) -> None:
        """Take the folder of this hospital's vaults from everybody else, where a former version made it wider."""
        try:
            narrow(self.vault.folder.parent)
        except OSError as error:
            raise storage_error(self.vault.folder.parent, 0, error) from error

    def permitted(self, order: Order) -> Phase:
        """The phase of an order that belongs to this hospital's own experiment and to its schedule.

        Raises:
            FederationError: it does not.
        """
        if order.experiment != self.config.name:
            raise FederationError(
                f"this hospital takes part in '{self.config.name}', the order is for {order.experiment[:70]!r}"
            )
        if order.task >= len(order.registry.tasks):
            raise FederationError(f"the order is for task {order.task}, there are {len(order.registry.tasks)}")
        if (order.phase, order.round) == (EXAMINE.name, 0):
            if reason := objection_to_examining(self.config):
                raise FederationError(reason)
            return EXAMINE
        schedule = self.method.schedule(self.config)
        for phase, number in schedule:
            if (phase.name, number) == (order.phase, order.round):
                return phase
        names = ", ".join(dict.fromkeys(phase.name for phase, _ in schedule))
        raise FederationError(
            f"round {order.round} of phase {order.phase[:40]!r} is not in the schedule of this experiment, "
            f"which has: {names}"
        )

    @property
    def method(self) -> Method:
        """The experiment's method."""
        return METHODS[self.config.method]

    @property
    def share(self) -> int:
        """The number of the hospital's share of a simulated stream."""
        return self.source.hospital

    @property
    def kept(self) -> Kept:
        """What a method to compare with keeps beside the vault's memories."""
        return Kept(self.vault.folder / "kept")

    @property
    def ledger(self) -> Ledger:
        """What this hospital has released under differential privacy, over all experiments."""
        privacy = self.config.privacy
        if self.allowance is None:
            return Ledger(self.vault.folder.parent, privacy.epsilon, privacy.delta)
        # A run cannot make a node's ε go further by a larger δ.
        delta = min(privacy.delta, ALLOWED_DELTA)
        return Ledger(self.vault.folder.parent, min(privacy.epsilon, self.allowance), delta)

    def raw(self, registry: Registry, task: int) -> Scans:
        """This hospital's raw training scans of a task; BrainCL never asks for them after `encode`."""
        return self.source.scans(registry, task, "train")

    def evaluated(self, registry: Registry, task: int) -> Scans:
        """This hospital's raw test or validation scans of a task."""
        return self.source.scans(registry, task, self.config.stream.evaluate)

    def validation(self, registry: Registry, task: int) -> Scans:
        """This hospital's raw validation scans of a task; none, which is said, where they cannot be had."""
        try:
            return self.source.scans(registry, task, "val")
        except DataError as error:
            log.info("%s: no validation scans of '%s': %s", self.name, registry.tasks[task].name, error)
            return Scans.none(self.config.stream.size)

    def unknown(self, registry: Registry) -> Sequence[Images]:
        """Scans of each data set that tests the rejection of unknown ones; a missing one matters if it is asked for.

        Raises:
            DataError: a set that the configuration names cannot be read.
        """
        found = []
        for dataset in unknown_sets(self.config.stream, registry):
            try:
                found.append(self.source.unknown(dataset))
            except MissingScansError as error:
                if self.config.stream.unknown:
                    raise
                # Nobody asked for the default set, so its absence only leaves its figures out.
                log.info("%s: no far unknown scans: %s", self.name, error)
        return found

    def public(self) -> Scans:
        """Scans of the sets that teach the memory in place of a task's, numbered set by set; none where none do."""
        memory = self.config.memory
        named = memory.public if isinstance(memory, LinearMemory) else ()
        return self.source.public(named) if named else Scans.none(self.config.stream.size)

    def recalled(self, task: int) -> Scans:
        """The recalled samples of a task, none when the vault has no memory of it; decoded once a process."""
        entry = self.vault.entry(task)
        if entry is None:
            return Scans.none(self.config.stream.size)
        return _recall(self.vault, task, entry.sha256)

    def seed(self, order: Order) -> int:
        """The seed of all that is random in an order."""
        return seed_for(self.config.seed, self.name, order.task, order.phase, order.round)


def keys_of(
    config: ExperimentConfig, hospital: str, vault_key: str, network_key: str, network_dir: Path | None = None
) -> Keys:
    """The keys of a hospital's vault in an experiment; none where no place is named.

    Args:
        config: the experiment.
        hospital: its name.
        vault_key, network_key: where the keys come from (`vault.keys`).
        network_dir: where completion networks lie; None means beside the cues.

    Raises:
        ConfigError: there is no such key, or the method keeps what would not be sealed.
    """
    if vault_key and "memory" not in config.facts.sections:
        raise ConfigError(
            f"vault-key seals the memories of method braincl, and method {config.method} keeps none or others: "
            "leave vault-key out"
        )
    return Keys.read(vault_key, network_key, hospital=hospital, network_dir=network_dir)


def require_own(order: Order, config: ExperimentConfig) -> None:
    """Refuse an order over other tasks than the experiment's own, which later ones may follow.

    Checked where orders arrive from elsewhere, before anything is encoded under their names.

    Raises:
        FederationError: a task or one of its classes is another than the configuration's stream has.
        ConfigError: a later task has a class that does not exist.
    """
    own = build_registry(config.stream, config.seed).tasks

    def said(tasks: Sequence[TaskSpec]) -> list[tuple[str, list[tuple[int | str, ...]]]]:
        return [(task.name, [(spec.dataset, *spec.labels) for spec in task.classes]) for task in tasks]

    if said(order.registry.tasks[: len(own)]) != said(own):
        raise FederationError(
            f"the order's tasks are not those of '{config.name}' here: give server and hospitals one configuration"
        )
    for spec in [spec for task in order.registry.tasks[len(own) :] for spec in task.classes]:
        parse_class(spec.key)


@lru_cache(maxsize=64)
def _recall(vault: Vault, task: int, sha256: str) -> Scans:
    """Recalled scans by the digest of their cue file: the same for a whole sleep phase, held as uint8 in memory."""
    scans = vault.recall(task)
    log.debug("recalled %d scans of task %d from %s", len(scans), task, sha256[:8])
    return scans
