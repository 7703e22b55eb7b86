"""The manifest of a vault: which files count. Its own file is described in docs/cue-format.md."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from braincl_med.foundation.checked import with_checksum
from braincl_med.vault.erasures import Erasure
from braincl_med.vault.folders import CUE_NAME, NETWORK_NAME

Memory = Literal["working", "long-term"]
LONGEST_NAME = 63
"""Characters of a hospital's name."""
KEY_ID = "^[0-9a-f]{8}$"


class Network(BaseModel):
    """A sealed completion network in a file of its own.

    Attributes:
        name, bytes, sha256: of the file.
        key: id of the key that seals it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NETWORK_NAME.pattern.replace(r"\Z", "$"))
    bytes: int
    sha256: str
    key: str = Field(pattern=KEY_ID)


class Seal(BaseModel):
    """How a committed file is sealed.

    Attributes:
        hospital: whose it is, as its envelope says.
        key: id of the key that seals it.
        network: its completion network, where that has a key and a file of its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hospital: str = Field(min_length=1, max_length=LONGEST_NAME)
    key: str = Field(pattern=KEY_ID)
    network: Network | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Ids of the keys that open it."""
        return (self.key,) if self.network is None else (self.key, self.network.key)


class Entry(BaseModel):
    """One committed file; its size and SHA-256 are those of the bytes on the disk, sealed or plain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=CUE_NAME.pattern.replace(r"\Z", "$"))
    task: int
    memory: Memory
    key: str
    bytes: int
    sha256: str
    seal: Seal | None = None

    @property
    def network(self) -> Network | None:
        """The file of its completion network, where it has one of its own."""
        return None if self.seal is None else self.seal.network

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its files."""
        return (self.name,) if self.network is None else (self.name, self.network.name)

    @property
    def stored(self) -> str:
        """How it lies there: `plain`, or `sealed` with the ids of its keys."""
        return "plain" if self.seal is None else f"sealed ({', '.join(self.seal.keys)})"


class Manifest(BaseModel):
    """The committed files, in the order of their tasks, and the last erasure if there was one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["braincl-vault"] = "braincl-vault"
    version: Literal[1] = 1
    entries: tuple[Entry, ...] = ()
    erased: Erasure | None = None

    def sealed(self) -> bytes:
        """The manifest's file: canonical JSON with the manifest's own SHA-256."""
        return with_checksum("manifest", self.model_dump(mode="json", exclude_none=True))

    def with_entry(self, entry: Entry) -> "Manifest":
        """The manifest with `entry` in place of any other of its task."""
        others = (e for e in self.entries if e.task != entry.task)
        return self.model_copy(update={"entries": tuple(sorted((*others, entry), key=lambda e: e.task))})

    def without(self, task: int) -> "Manifest":
        """The manifest without a task."""
        return self.model_copy(update={"entries": tuple(e for e in self.entries if e.task != task)})

    @property
    def hospitals(self) -> set[str]:
        """Whose its sealed files are; empty when all are plain."""
        return {entry.seal.hospital for entry in self.entries if entry.seal is not None}
