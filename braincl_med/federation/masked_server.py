"""The server's side of masked sums: agree on keys, collect masked numbers, and have the masks taken off their sum.

    keys, once a task ─► order, answered masked ─► unmask ─► the one answer that all hospitals gave together

It keeps nothing of masks: after an interruption a new session is agreed on.
"""

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from braincl_med.cortex.cortex import Weights
from braincl_med.federation.exchange import Hospitals, Outcome, carried
from braincl_med.federation.masked_step import layout_of, report_of
from braincl_med.federation.masks import EPSILON, context_of
from braincl_med.foundation.errors import FederationError
from braincl_med.masking.protocol import unmask
from braincl_med.masking.ring import Layout, Vectors, empty
from braincl_med.masking.wire import (
    AskKeys,
    AskUnmask,
    AskUpload,
    Letter,
    Member,
    ToldShares,
    ToldUpload,
    told,
    unpacked,
)
from braincl_med.messages.figures import objection_to_figures
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.messages.update import objection
from braincl_med.methods.base import Method
from braincl_med.methods.phase import NOTHING, Phase
from braincl_med.settings.config import ExperimentConfig

log = logging.getLogger("braincl")


@dataclass(frozen=True)
class Session:
    """Keys that were agreed on.

    Attributes:
        id: drawn.
        task: during which they serve.
        members: who signed one.
    """

    id: str
    task: int
    members: tuple[Member, ...]


@dataclass
class MaskedHospitals(Hospitals):
    """The hospitals of a run, of which only sums are seen.

    Attributes:
        config: of the experiment.
        session: the one that serves now.
    """

    config: ExperimentConfig = field(default_factory=ExperimentConfig)
    session: Session | None = None

    def ask(self, order: Order, phase: Phase, method: Method, known: Sequence[str]) -> Outcome:
        """Send an order, and answer with what all hospitals gave together; as `Hospitals.ask`."""
        if phase.answer is NOTHING and (phase, order.round) != method.schedule(self.config)[0]:
            return super().ask(order, phase, method, known)
        traffic = Traffic()
        session = self._agreed(order, known, traffic)
        asked = AskUpload(session=session.id, sum=secrets.token_hex(16), members=session.members)
        masked = replace(order, masking=asked.text())
        layout = layout_of(order, phase, method, self.config)
        answers = list(self.exchange(masked))
        usable, missing = self.sorted_out(answers, lambda answer: _objection(answer, layout, session))
        traffic.add(masked, answers, usable)
        self.require_quorum(order, answers, usable, missing, known)
        total = self._unmasked(masked, asked, layout, usable, traffic)
        report = report_of(layout.decode(total), order, phase, method, self.config)
        if spent := [answer.figures[EPSILON] for answer in usable if EPSILON in answer.figures]:
            report = replace(report, figures={**report.figures, EPSILON: max(spent)})
        present = {answer.hospital: answer.threads for answer in sorted(usable, key=lambda r: r.hospital)}
        return Outcome((report,), missing, present, traffic.down, traffic.up)

    def _agreed(self, order: Order, known: Sequence[str], traffic: "Traffic") -> Session:
        """The session that serves; a new one for each task, and as long as hospitals are missing from it.

        Raises:
            FederationError: fewer hospitals than the quorum made a key.
        """
        session = self.session
        if session and session.task == order.task and len(session.members) == self.federation.hospitals:
            return session
        asked = AskKeys(session=secrets.token_hex(16))
        keys = replace(order, weights={}, masking=asked.text())
        answers = list(self.exchange(keys))
        usable, missing = self.sorted_out(answers, _objection_to_key)
        traffic.add(keys, answers, usable)
        self.require_quorum(order, answers, usable, missing, known)
        members = sorted((told(Member, answer.masking) for answer in usable), key=lambda member: member.hospital)
        self.session = Session(asked.session, order.task, tuple(members))
        return self.session

    def _unmasked(
        self, masked: Order, asked: AskUpload, layout: Layout, uploads: Sequence[Report], traffic: "Traffic"
    ) -> Vectors:
        """The sum of masked answers without its masks.

        Raises:
            FederationError: fewer hospitals than the threshold told the shares that it takes.
        """
        handed = {answer.hospital: told(ToldUpload, answer.masking) for answer in uploads}
        dropped = tuple(member.hospital for member in asked.members if member.hospital not in handed)
        question = AskUnmask(session=asked.session, sum=asked.sum, alive=tuple(sorted(handed)), dropped=dropped)
        letters = {
            answer.sender: Letter(boxes={name: one.boxes[answer.hospital] for name, one in handed.items()}).text()
            for answer in uploads
        }
        order = replace(masked, weights={}, masking=question.text(), letters=letters)
        answers = list(self.exchange(order))
        survivors, missing = self.sorted_out(answers, lambda answer: _objection_to_shares(answer, handed))
        traffic.add(order, answers, survivors)
        for name, reason in missing.items():
            log.warning("%s: %s did not help to take the masks off: %s", order, name, reason)
        total: Vectors = {bits: empty(bits, length) for bits, length in layout.lengths.items()}
        for answer in uploads:
            for bits, vector in total.items():
                vector += answer.weights[f"masked.{bits}"].numpy().view(vector.dtype)
        shares = {
            answer.hospital: {name: unpacked(text) for name, text in told(ToldShares, answer.masking).shares.items()}
            for answer in survivors
        }
        digests = {name: one.digests for name, one in handed.items()}
        threshold = self.federation.masked_least
        try:
            unmask(total, digests, dropped, shares, threshold, context_of(masked, threshold))
        except FederationError as error:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(missing.items()))
            raise FederationError(f"{order}: {error}" + (f" ({reasons})" if reasons else "")) from None
        return total


@dataclass
class Traffic:
    """Bytes of all exchanges of one step."""

    down: int = 0
    up: int = 0

    def add(self, order: Order, answers: Sequence[Report], usable: Sequence[Report]) -> None:
        """Count one exchange."""
        down, up = carried(order, answers, usable)
        self.down, self.up = self.down + down, self.up + up


def _objection(answer: Report, layout: Layout, session: Session) -> str:
    """Why masked numbers cannot be used; empty when they can, as far as anybody sees."""
    members = {member.hospital for member in session.members}
    if answer.hospital not in members:
        return "it made no key for this sum"
    if answer.examples or answer.figures.keys() - {EPSILON} or answer.loss is not None:
        return "it told numbers in clear, which was not asked for"
    expected: Weights = {
        f"masked.{bits}": torch.empty(length, dtype=torch.int32 if bits == 32 else torch.int64, device="meta")
        for bits, length in layout.lengths.items()
    }
    if reason := objection(answer.weights, expected) or objection_to_figures(answer.figures, False, 0):
        return reason
    try:
        handed = told(ToldUpload, answer.masking)
    except FederationError as error:
        return str(error)
    if handed.boxes.keys() != members or len(handed.digests) != len(members):
        return "its shares are not for the hospitals of this sum"
    return ""


def _objection_to_key(answer: Report) -> str:
    try:
        return "" if told(Member, answer.masking).hospital == answer.hospital else "its key has another's name"
    except FederationError as error:
        return str(error)


def _objection_to_shares(answer: Report, handed: Mapping[str, ToldUpload]) -> str:
    try:
        shares = told(ToldShares, answer.masking).shares
        for text in shares.values():
            unpacked(text)
    except FederationError as error:
        return str(error)
    return "" if answer.hospital in handed and shares.keys() == handed.keys() else "its shares are of other hospitals"
