"""What the server remembers of hospitals beside the checkpoint: whose name is whose, and what each said it encoded.

    server/<experiment>/members.json

A name belongs to the key of the first node that answered under it, for as long as the experiment lasts; a replaced
node gets the name once it is released. Without node authentication a node has no key that outlives it, and nothing
is bound but within one run (`Hospitals`).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from braincl_med.foundation.checked import read_checked, with_checksum
from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.files import write_whole
from braincl_med.messages.report import MOST_SAMPLES, HospitalName, Report

NAME = "members.json"
Count = Annotated[int, Field(ge=0, le=MOST_SAMPLES)]


class Member(BaseModel):
    """One hospital.

    Attributes:
        key: SHA-256 of its node's public key; empty where the transport vouches for none.
        encoded: by task, how many training scans it said it encoded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    encoded: dict[int, Count] = {}


class Members(BaseModel):
    """All hospitals that have answered in an experiment.

    Attributes:
        most_per_class: the largest `stream-train-per-class` that it has had: no memory holds more of a class.
        members: by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    most_per_class: int = 0
    members: dict[HospitalName, Member] = {}

    def owner_of(self, key: str) -> str | None:
        """The name that a key has answered under, None where there is none."""
        return next((name for name, member in self.members.items() if key and member.key == key), None)

    def key_of(self, name: str) -> str:
        """The key that a name is bound to; empty where it is bound to none."""
        return self.members.get(name, Member()).key

    def bound(self, answers: Iterable[Report]) -> "Members":
        """With the names of sound answers bound to the keys that they came with, where they were bound to none."""
        new = {a.hospital: a.key for a in answers if a.key and not self.key_of(a.hospital)}
        return self._with({name: self._of(name).model_copy(update={"key": key}) for name, key in new.items()})

    def encoding(self, task: int, answers: Iterable[Report]) -> "Members":
        """With what was said to be encoded of a task.

        Nothing is kept of a hospital without scans: it may have some, and make up for the task, at the next one.
        """
        told = {a.hospital: {**self._of(a.hospital).encoded, task: a.examples} for a in answers if a.examples}
        return self._with({name: self._of(name).model_copy(update={"encoded": one}) for name, one in told.items()})

    def begun_with(self, per_class: int, tasks: int) -> "Members":
        """As a run begins: with its limit a class, and without what was said of tasks beyond the first `tasks`."""
        kept = {
            name: member.model_copy(update={"encoded": {t: n for t, n in member.encoded.items() if t < tasks}})
            for name, member in self.members.items()
        }
        return self.model_copy(update={"most_per_class": max(self.most_per_class, per_class), "members": kept})

    def released(self, name: str) -> "Members":
        """Without the key of a name, which the next node that answers under it takes.

        Raises:
            ConfigError: no node holds that name.
        """
        if not self.key_of(name):
            held = ", ".join(sorted(n for n, member in self.members.items() if member.key)) or "none"
            raise ConfigError(f"no node's key holds the name {name[:70]!r}; names that are held: {held}")
        return self._with({name: self._of(name).model_copy(update={"key": ""})})

    def _of(self, name: str) -> Member:
        return self.members.get(name, Member())

    def _with(self, changed: dict[str, Member]) -> "Members":
        return self.model_copy(update={"members": {**self.members, **changed}}) if changed else self


def read_members(folder: Path) -> Members:
    """What is remembered in an experiment's folder; nothing where there is no file.

    Raises:
        VaultError: it is damaged, or cannot be read.
    """
    damaged = f"'{NAME}' is damaged: restore it, or delete it, and the next nodes that answer take their names"
    return read_checked(folder / NAME, "members", Members, damaged) or Members()


def write_members(folder: Path, members: Members) -> None:
    """Remember.

    Raises:
        VaultError: it cannot be written.
    """
    write_whole(folder / NAME, with_checksum("members", members.model_dump(mode="json")))
