"""Who answered to an order, and which of the answers can be used."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from braincl_med.federation.judgement import implausible
from braincl_med.federation.limits import Limits
from braincl_med.federation.members import Member, Members
from braincl_med.foundation.errors import FederationError
from braincl_med.foundation.texts import one_line
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report, size_of
from braincl_med.methods.base import Method
from braincl_med.methods.phase import Phase
from braincl_med.methods.publish import objection_of
from braincl_med.settings.federation import FederationConfig

log = logging.getLogger("braincl")
CLASSIFIER_ROWS = "classifier.weight"
MOST_NAMED = 10
"""Hospitals whose reasons are spelled out where a quorum is missed."""

Exchange = Callable[[Order], Sequence[Report]]
"""Sends an order to every connected hospital and returns an answer for each, a failure for one that gave none."""


@dataclass(frozen=True)
class Outcome:
    """What came of one exchange.

    Attributes:
        usable: answers sorted by hospital; under masks the one that their sum is.
        missing: for every hospital without a usable answer the reason.
        present: the others by name, with how many threads each of them computed.
        bytes_down, bytes_up: weights and texts to and from all hospitals; upwards of those that are present.
    """

    usable: tuple[Report, ...]
    missing: Mapping[str, str]
    present: Mapping[str, int]
    bytes_down: int
    bytes_up: int


@dataclass
class Hospitals:
    """The hospitals of a run, as they turn out by their answers.

    Attributes:
        exchange: how orders reach them.
        federation: how many there are, and how many must answer.
        names: under which name each sender has answered; none may take another's.
        members: what is remembered of them over runs: the keys that names are bound to, and what each encoded.
        limits: how many scans one may speak of.
    """

    exchange: Exchange
    federation: FederationConfig
    names: dict[str, str] = field(default_factory=dict)
    members: Members = field(default_factory=Members)
    limits: Limits = field(default_factory=Limits)

    def ask(self, order: Order, phase: Phase, method: Method, known: Sequence[str]) -> Outcome:
        """Send an order and judge the answers; whatever is wrong with one is that hospital's refusal.

        Args:
            order: of `phase`.
            phase: says what an answer must hold.
            method: of the experiment.
            known: hospitals that have answered before.

        Raises:
            FederationError: fewer usable answers than the quorum.
        """
        answers = list(self.exchange(order))
        usable, missing = self.sorted_out(answers, lambda answer: self._objection(answer, order, phase, method))
        if phase.answer.published and phase.answer.summed:
            far = implausible(usable, order.weights, self.limits.farthest)
            missing |= far
            usable = [answer for answer in usable if answer.hospital not in far]
        self.require_quorum(order, answers, usable, missing, known)
        usable = sorted(usable, key=lambda r: r.hospital)
        present = {r.hospital: r.threads for r in usable}
        down, up = carried(order, answers, usable)
        return Outcome(tuple(usable), missing, present, down, up)

    def sorted_out(
        self, answers: Sequence[Report], objection: Callable[[Report], str]
    ) -> tuple[list[Report], dict[str, str]]:
        """The sound answers, and for every other one the reason, by its hospital's name.

        Args:
            answers: of an exchange.
            objection: why an answer is no use; empty where it is.
        """
        reasons = {id(answer): answer.failure or objection(answer) for answer in answers}
        # Whose answer is no use cannot take anybody's name with it, nor have a sound answer's recorded as missing.
        reasons |= self._impostors([answer for answer in answers if not reasons[id(answer)]])
        sound = [answer for answer in answers if not reasons[id(answer)]]
        taken, missing = {answer.hospital for answer in sound}, dict[str, str]()
        for answer in answers:
            if reason := reasons[id(answer)]:
                name = self._called(answer)
                if name in taken or name in missing:
                    name = f"node-{answer.sender}"
                while name in taken or name in missing:
                    name += "?"  # which no hospital's own name has
                missing[name] = one_line(reason)
        return sound, missing

    def require_quorum(
        self,
        order: Order,
        answers: Sequence[Report],
        usable: Sequence[Report],
        missing: dict[str, str],
        known: Sequence[str],
    ) -> None:
        """Add the hospitals that were not asked to the missing ones, say who is missing, and count the others.

        Raises:
            FederationError: fewer usable answers than the quorum.
        """
        missing |= self._silent(answers, known)
        for name, reason in missing.items():
            log.warning("%s: no usable answer of %s: %s", order, name, reason)
        if len(usable) < self.federation.least:
            named = [f"{name}: {reason}" for name, reason in sorted(missing.items())]
            more = [f"and {len(named) - MOST_NAMED} more"] if len(named) > MOST_NAMED else []
            reasons = "; ".join([*named[:MOST_NAMED], *more])
            raise FederationError(
                f"{order}: {len(usable)} of {self.federation.hospitals} hospitals gave a usable answer, "
                f"the quorum is {self.federation.least} ({reasons})"
            )

    def _objection(self, answer: Report, order: Order, phase: Phase, method: Method) -> str:
        """Why an answer cannot be used; empty when it can."""
        reason = None
        if phase.answer.published and answer.examples:
            reason = phase.answer.objection(answer.weights, method.trainable(order.weights))
        elif answer.weights:
            reason = "it holds tensors, which were not asked for"
        if "classes" in answer.figures and CLASSIFIER_ROWS not in answer.weights:
            reason = reason or "it counts samples of classes, which was not asked for"
        classes, noisy = order.registry.seen(order.task), self.limits.privacy.mode != "off"
        reason = reason or objection_of(answer.figures, phase, classes, noisy=noisy)
        encoded = self.members.members.get(answer.hospital, Member()).encoded
        return reason or self.limits.objection(answer, order, phase, encoded) or ""

    def _impostors(self, answers: Sequence[Report]) -> dict[int, str]:
        """Reasons, by the answer's identity, against answers under a name that is another's or not clear whose.

        A sender keeps the name of its first sound answer, as long as it answers: under Flower's simulation a hospital
        comes back as another sender when a run is resumed. A key keeps its name in every run (`Members`).
        """
        senders = {a.sender for a in answers}
        owners = {name: sender for sender, name in self.names.items() if sender in senders}
        named = [a for a in answers if a.hospital]
        reasons: dict[int, str] = {}
        for answer in named:
            name, own = answer.hospital, self.names.get(answer.sender)
            if self.members.owner_of(answer.key) not in (None, name):
                reasons[id(answer)] = (
                    f"it answers as '{name}', and its key is that of '{self.members.owner_of(answer.key)}'"
                )
            elif self.members.key_of(name) not in ("", answer.key):
                reasons[id(answer)] = (
                    f"it answers as '{name}', which is bound to another node's key: give it its own name, or release "
                    "the name if its node was replaced (`braincl hospitals`)"
                )
            elif owners.get(name, answer.sender) != answer.sender or own not in (None, name):
                reasons[id(answer)] = f"it answers as '{name}', which is not its name: give each hospital its own"
        fresh = [a.hospital for a in named if id(a) not in reasons]
        for answer in named:
            if fresh.count(answer.hospital) > 1 and id(answer) not in reasons:
                reasons[id(answer)] = (
                    f"two hospitals answer as '{answer.hospital}': give each its own name or partition-id"
                )
        rightful = [a for a in named if id(a) not in reasons]
        self.names |= {a.sender: a.hospital for a in rightful if a.sender}
        self.members = self.members.bound(rightful)
        return reasons

    def _called(self, answer: Report) -> str:
        """The name under which a refused answer is recorded: its sender's, where that is known."""
        own = self.names.get(answer.sender) or self.members.owner_of(answer.key)
        taken = answer.sender and answer.hospital in self.names.values()
        others = self.members.key_of(answer.hospital) not in ("", answer.key)
        return own or ("" if taken or others else answer.hospital) or f"node-{answer.sender}"

    def _silent(self, answers: Sequence[Report], known: Sequence[str]) -> dict[str, str]:
        """Hospitals that were not asked, because they were not connected."""
        heard = {self._called(answer) for answer in answers}
        away = [name for name in known if name not in heard]
        unnamed = self.federation.hospitals - len(answers) - len(away)
        return {name: "not connected" for name in [*away, *(f"unnamed-{i + 1}" for i in range(max(0, unnamed)))]}


def carried(order: Order, answers: Sequence[Report], usable: Sequence[Report]) -> tuple[int, int]:
    """Bytes to all hospitals that were asked, and from those that are usable, as the transport counted them."""
    down = sum(answer.bytes_down or size_of(order.addressed(answer.sender)) for answer in answers)
    return down, sum(answer.bytes_up or size_of(answer) for answer in usable)
