"""What a hospital must remember of sums, so that no secret serves twice: a file an experiment, for its owner alone.

A client app may be a process for each message, so all of it lies on the disk: the private key of the session, the
sums that were answered, and, of every step whose masks were taken off, which hospitals were in the sum. The same step
summed again over others would tell, as a difference, what one of them sent; so it is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from braincl_med.foundation.checked import read_checked, with_checksum
from braincl_med.foundation.errors import FederationError
from braincl_med.foundation.files import (
    locked,
    make_private,
    storage_error,
    write_whole,
)
from braincl_med.masking.wire import Hex32, Id


class Open(BaseModel):
    """The sum that this hospital answered last, and whose masks may still be taken off.

    Attributes:
        sum: its id.
        step: task, phase and round.
        context: of the protocol.
        publics: keys by member.
        threshold: of the sum.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sum: Id
    step: str
    context: Hex32
    publics: dict[str, Hex32]
    threshold: int


class Ledger(BaseModel):
    """Everything.

    Attributes:
        session: the one that is agreed on, empty before the first.
        private: this hospital's key of it.
        used: ids of the sums of this session.
        open: the sum that waits.
        told: of each step, over whom it was summed.
    """

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    session: str = ""
    private: str = ""
    used: list[Id] = []
    open: Open | None = None
    told: dict[str, list[str]] = {}

    def begin(self, session: str, private: bytes) -> None:
        """A new session; the key of the former one is forgotten with all that it masked."""
        self.session, self.private, self.used, self.open = session, private.hex(), [], None

    def take(self, waiting: Open, session: str) -> None:
        """Use a sum's id, before anything is computed for it.

        Raises:
            FederationError: it was used, or belongs to another session.
        """
        if session != self.session or not self.private:
            raise FederationError("this hospital has no key of the session that a sum belongs to: agree anew")
        if waiting.sum in self.used:
            raise FederationError("a sum with this id was answered before: its masks are not used twice")
        self.used.append(waiting.sum)
        self.open = waiting

    def close(self, sum_id: str, session: str, alive: list[str]) -> Open:
        """The sum that waits, whose shares are told now and never again.

        Raises:
            FederationError: it does not wait, or its step was summed before over other hospitals.
        """
        waiting = self.open
        if waiting is None or (waiting.sum, self.session) != (sum_id, session):
            raise FederationError("no masked numbers of this hospital wait for these shares: none were told")
        former = self.told.get(waiting.step)
        if former is not None and former != sorted(alive):
            raise FederationError(
                f"{waiting.step} was summed before over {', '.join(former)}, and summed again over others it would "
                "tell what one of them sent: bring these back, or begin the experiment afresh"
            )
        self.told[waiting.step] = sorted(alive)
        self.open = None
        return waiting


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """The ledger at `path`, which nobody else changes meanwhile, written before the block's end is told to anybody.

    Raises:
        VaultError: it is damaged, or cannot be read or written.
        LockedError: another process answers for this hospital.
    """
    try:
        make_private(path.parent)
    except OSError as error:
        raise storage_error(path, 0, error) from error
    with locked(path.parent, "what this hospital keeps of masks"):
        ledger = read_ledger(path)
        yield ledger
        write_whole(path, with_checksum("ledger", ledger.model_dump(mode="json")))


def read_ledger(path: Path) -> Ledger:
    """The ledger at `path`; an empty one where there is none.

    Raises:
        VaultError: it is damaged, or cannot be read.
    """
    damaged = (
        f"'{path.name}', which says what this hospital has told of masks, is damaged: restore it, or begin the "
        "experiment afresh under another name"
    )
    return read_checked(path, "ledger", Ledger, damaged) or Ledger()
