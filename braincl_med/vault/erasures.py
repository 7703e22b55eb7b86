"""The log of erasures: what was taken out of a vault for good, one line an erasure.

    erasures.jsonl    {"after":"…","before":"…","dataset_label":"bloodmnist/2",…,"previous":""}
                      {…,"previous":"SHA-256 of the line above"}

The manifest holds the last erasure too. A line that is changed or removed therefore no longer fits the line below it
or, if it is the last, the manifest; and an erasure that a kill kept out of the log is not forgotten.
"""

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import canonical_json, sha256_of
from braincl_med.vault.cuefile import Ordinal

LOG = "erasures.jsonl"

Digest = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]


class Erasure(BaseModel):
    """Records of one class of one task that were erased at once.

    Attributes:
        time: when, in UTC; for people alone, nothing depends on it.
        task: which task's memory.
        key: the memory's key, see `Header`: a memory of the same key holds the same records under the same ordinals.
        dataset_label: `dataset/label` of the class.
        records: how many were erased.
        ordinals: which ones, as in `Shard`; empty when it was the whole class.
        before: SHA-256 of the cue file that held them.
        after: SHA-256 of the cue file that took its place; empty when nothing of the task remained.
        refit_lost_db: about what the recalls that remain have lost when the task's memory was fitted anew to them
            (`vault.refit`); None when it was not.
        previous: SHA-256 of the line above in the log; empty in the first line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")
    task: int = Field(ge=0, lt=2**16)
    key: str = Field(max_length=64)
    dataset_label: str = Field(max_length=200)
    records: int = Field(ge=0, lt=2**32)
    ordinals: tuple[Ordinal, ...] = ()
    before: Digest
    after: Digest
    refit_lost_db: float | None = Field(default=None, ge=0)
    previous: Digest

    def line(self) -> bytes:
        """The erasure as a line of the log, without its end."""
        return canonical_json(self.model_dump(mode="json", exclude_none=True))


def digest_of(last: Erasure | None) -> str:
    """What the line after `last` gives as `previous`."""
    return "" if last is None else sha256_of(last.line())


def to_log(erasures: Iterable[Erasure]) -> bytes:
    """The whole log."""
    return b"".join(erasure.line() + b"\n" for erasure in erasures)


def from_log(content: bytes, last: Erasure | None) -> tuple[Erasure, ...]:
    """All erasures, oldest first.

    Args:
        content: the log's bytes; it may lack `last`, which is then added.
        last: the last erasure as the manifest names it.

    Raises:
        VaultError: a line was changed, added or removed.
    """
    erasures: list[Erasure] = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            erasure = Erasure.model_validate_json(line)
        except ValidationError:
            raise VaultError(f"'{LOG}': line {number} is no erasure: restore the file from a backup") from None
        if erasure.previous != digest_of(erasures[-1] if erasures else None):
            raise VaultError(
                f"'{LOG}': line {number} does not follow from the line above, one was changed, added or removed: "
                "restore the file from a backup"
            )
        erasures.append(erasure)
    if content != to_log(erasures):
        raise VaultError(f"'{LOG}' holds more than erasures: restore the file from a backup")
    end = erasures[-1] if erasures else None
    if last is not None and last != end and last.previous == digest_of(end):
        return (*erasures, last)
    if last != end:
        raise VaultError(
            f"'{LOG}' ends with line {len(erasures)}, which is not the manifest's last erasure, lines were added or "
            "removed: restore the file from a backup"
        )
    return tuple(erasures)
