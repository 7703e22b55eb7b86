"""A hospital's side of masked sums: it answers only what its own ledger, identities and threshold allow.

Nothing that one hospital computed leaves it in clear: no tensors, counts, losses or figures, of no phase. What the
server cannot look at any more under masks is looked at here, before masking.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch

from braincl_med.federation.judgement import implausible
from braincl_med.federation.masked_step import layout_of, values_of
from braincl_med.federation.seen import FOLDER
from braincl_med.foundation.errors import FederationError
from braincl_med.foundation.files import canonical_json
from braincl_med.masking.agreement import new_private, public_of
from braincl_med.masking.identity import own_identity, pinned
from braincl_med.masking.ledger import Open, opened
from braincl_med.masking.protocol import Party, mask, objection_to_members, reveal, signed_text
from braincl_med.masking.wire import (
    AskKeys,
    AskUnmask,
    AskUpload,
    Letter,
    Member,
    ToldShares,
    ToldUpload,
    asked,
    packed,
    told,
    unpacked,
)
from braincl_med.messages.compact import digest_of
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.base import Method
from braincl_med.methods.phase import NOTHING, Phase
from braincl_med.settings.config import ExperimentConfig

log = logging.getLogger("braincl")

IDENTITY = "identity"
LEDGER = "ledger.json"
EPSILON = "epsilon"


@dataclass(frozen=True)
class Masks:
    """What a hospital needs for masked sums, besides its own configuration.

    Attributes:
        folder: of its ledgers, in a folder an experiment.
        identity: the file of its private key.
        identities: the file that pins all hospitals' public ones; None in a simulation on one machine, whose
            hospitals find each other's beside their own.
    """

    folder: Path
    identity: Path
    identities: Path | None = None

    @classmethod
    def simulated(cls, state: Path, site: str) -> Self:
        """Those of a simulated hospital."""
        return cls(state / site / FOLDER, state / site / FOLDER / IDENTITY)

    def pinned(self, threshold: int) -> dict[str, str]:
        """Public identities by hospital, which no server chose.

        Raises:
            ConfigError: the file cannot be used.
            FederationError: it pins more hospitals than a sum of at least `threshold` is one of most of: a run, whose
                configuration says the threshold, cannot pick a few.
        """
        if self.identities is not None:
            found = pinned(self.identities)
            if 2 * threshold <= len(found):
                raise FederationError(
                    f"{len(found)} hospitals are pinned here, and a sum of {threshold} would do "
                    "(federation-masking-threshold): it must be more than half of them"
                )
            return found
        files = self.folder.parent.parent.glob(f"site-*/{FOLDER}/{IDENTITY}.pub")
        return {path.parent.parent.name: " ".join(path.read_text().split()[:2]) for path in files}


@dataclass(frozen=True)
class MaskedSite:
    """One hospital in one experiment under masks.

    Attributes:
        name: of the hospital.
        config: of the experiment.
        method: of the experiment.
        masks: see there.
    """

    name: str
    config: ExperimentConfig
    method: Method
    masks: Masks

    def answer(self, order: Order, phase: Phase, run: Callable[[], Report]) -> Report:
        """Carry out one step of the protocol.

        Args:
            order: as it came.
            phase: of the order.
            run: carries the phase out and gives the report as it would be sent without masks.

        Raises:
            BrainclError: something in what was asked is not to be answered.
        """
        if not order.masking:
            if phase.answer is not NOTHING:
                raise FederationError(f"{phase.name} came without masks, and here federation-masking is on")
            return Report(self.name, threads=run().threads)
        match asked(order.masking):
            case AskKeys() as keys:
                return self._key(order, keys)
            case AskUpload() as upload:
                return self._masked(order, phase, upload, run)
            case AskUnmask() as unmask:
                return self._shares(order, unmask)

    @property
    def _ledger(self) -> Path:
        return self.masks.folder / self.config.name / LEDGER

    def _key(self, order: Order, keys: AskKeys) -> Report:
        """A new key for a session, signed."""
        private, identity = new_private(), own_identity(self.masks.identity, self.name)
        with opened(self._ledger) as ledger:
            ledger.begin(keys.session, private)
        public = public_of(private).hex()
        signature = identity.sign(signed_text(order.experiment, order.task, keys.session, self.name, public))
        member = Member(hospital=self.name, public=public, signature=signature.hex())
        return Report(self.name, threads=torch.get_num_threads(), masking=member.text())

    def _masked(self, order: Order, phase: Phase, upload: AskUpload, run: Callable[[], Report]) -> Report:
        """The phase's answer, masked."""
        federation = self.config.federation
        with opened(self._ledger) as ledger:
            private = bytes.fromhex(ledger.private)
            own = (self.name, public_of(private).hex() if private else "")
            session = (order.experiment, order.task, upload.session)
            pins = self.masks.pinned(federation.masked_least)
            if reason := objection_to_members(
                upload.members, own, session, pins, federation.masked_least, federation.hospitals
            ):
                raise FederationError(f"no masked sum over these hospitals: {reason}")
            context = context_of(order, self.config)
            publics = {member.hospital: member.public for member in upload.members}
            step = f"task {order.task}, {order.phase} round {order.round + 1}"
            waiting = Open(
                sum=upload.sum, step=step, context=context.hex(), publics=publics, threshold=federation.masked_least
            )
            ledger.take(waiting, upload.session)
        report = self._checked(order, phase, run())
        values = values_of(report, order, phase, self.method, self.config)
        try:
            vectors, clipped = layout_of(order, phase, self.method, self.config).encode(values)
        except ValueError as error:
            raise FederationError(f"what {phase.name} counted or learned cannot be summed: {error}") from None
        if clipped:
            log.warning(
                "%s: %s: %d numbers were beyond what a masked sum holds, and clipped", self.name, order, clipped
            )
        sealed = mask(_party(self.name, private, waiting), vectors)
        boxes = {name: packed(box) for name, box in sealed.boxes.items()}
        return Report(
            self.name,
            # What a hospital has spent is of no scan, and the worst of all is what counts.
            figures={key: value for key, value in report.figures.items() if key == EPSILON},
            weights={f"masked.{bits}": _signed(vector) for bits, vector in vectors.items()},
            threads=report.threads,
            masking=ToldUpload(boxes=boxes, digests=sealed.digests).text(),
        )

    def _checked(self, order: Order, phase: Phase, report: Report) -> Report:
        """The report, if it is one that a server without masks would take.

        Raises:
            FederationError: its update lies too far from what was sent.
        """
        judged = [report] if phase.answer.published and phase.answer.summed else []
        if reasons := implausible(judged, order.weights, self.config.farthest):
            raise FederationError(f"this hospital's update of {phase.name} is left out: {reasons[self.name]}")
        return report

    def _shares(self, order: Order, unmask: AskUnmask) -> Report:
        """The shares that take the masks off a sum that this hospital is in; told once."""
        letter = told(Letter, order.letter)
        with opened(self._ledger) as ledger:
            private = bytes.fromhex(ledger.private)
            waiting = ledger.close(unmask.sum, unmask.session, list(unmask.alive))
            boxes = {name: unpacked(box) for name, box in letter.boxes.items()}
            shares = reveal(_party(self.name, private, waiting), unmask.alive, unmask.dropped, boxes)
        content = ToldShares(shares={name: packed(share) for name, share in shares.items()})
        return Report(self.name, threads=torch.get_num_threads(), masking=content.text())


def context_of(order: Order, config: ExperimentConfig) -> bytes:
    """The digest of all that is told to every hospital of a sum: the order, its tensors, who is in it, and what each
    must know of the others' settings: the threshold, and under privacy how much noise they add.
    """
    settings = [config.federation.hospitals, config.federation.masked_least, config.privacy.model_dump(mode="json")]
    said = replace(order, letters={}, letter="").text()
    return hashlib.sha256(canonical_json([said, digest_of(order.weights), settings])).digest()


def _party(name: str, private: bytes, waiting: Open) -> Party:
    publics = {member: bytes.fromhex(public) for member, public in waiting.publics.items()}
    return Party(name, private, publics, waiting.threshold, bytes.fromhex(waiting.context))


def _signed(vector: np.ndarray) -> torch.Tensor:
    """Residues as a tensor that every transport takes."""
    return torch.from_numpy(vector.view(np.int32 if vector.itemsize == 4 else np.int64))
