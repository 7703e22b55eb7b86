"""A sealed file: an envelope around content that only the holder of a key reads. Described in docs/cue-format.md.

    0   magic "BRAINCL-SEALED"   14 bytes
    14  version (1)              u16
    16  header length            u32    at most 4 KiB
    20  ciphertext length        u64    at most 2 GiB
    28  header (JSON) · ciphertext of the content, whose last 16 bytes are its tag

Each file has a data key of its own, drawn when it is written and used once: the content is AES-256-GCM under it, with
everything before the ciphertext as associated data. The data key lies in the header, itself AES-256-GCM under the
hospital's key, with the file's place as associated data. So a file that is changed, cut, or put into another's place
is refused, and a file that is deleted takes its data key with it.
"""

import json
import re
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from braincl_med.foundation.errors import SealedError, VaultError
from braincl_med.foundation.files import canonical_json
from braincl_med.vault.keys import LENGTH, Key

MAGIC = b"BRAINCL-SEALED"
VERSION = 1
FIXED = struct.Struct("<14sHIQ")
LARGEST_HEADER = 2**12
LARGEST = 2**31 - 1
"""Bytes of a ciphertext, as the library takes them at once."""
NONCE, TAG = 12, 16

Part = Literal["cue-file", "cues", "network"]
"""What is sealed: a whole cue file, one without its completion network, or that network."""


class Place(BaseModel):
    """Where a sealed file belongs, and nowhere else.

    Attributes:
        hospital, experiment: whose vault.
        task, memory: whose cue file.
        part: of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hospital: str = Field(min_length=1, max_length=63)
    experiment: str = Field(max_length=64)
    task: int = Field(ge=0, lt=2**16)
    memory: str = Field(pattern="^(working|long-term)$")
    part: Part

    def __str__(self) -> str:
        # Nobody vouches for these texts before the envelope is open; what cannot be printed is written as an escape.
        return f"the {self.part} of task {self.task} ({self.memory}) of {self.experiment!r} at {self.hospital!r}"


class _Header(Place):
    """What stands in clear before the ciphertext: the place, and all that the key's holder needs.

    Attributes:
        key: id of the hospital's key.
        wrapped: the data key under the hospital's key: nonce, ciphertext and tag, hexadecimal.
        nonce: of the content's ciphertext, hexadecimal.
    """

    key: str = Field(pattern="^[0-9a-f]{8}$")
    wrapped: str = Field(pattern=f"^[0-9a-f]{{{2 * (NONCE + LENGTH + TAG)}}}$")
    nonce: str = Field(pattern=f"^[0-9a-f]{{{2 * NONCE}}}$")


@dataclass(frozen=True)
class Envelope:
    """A sealed file, its structure checked and nothing opened.

    Attributes:
        place: where it says that it belongs; to be believed once it is opened.
        key: id of the key that opens it.
        wrapped, nonce: see the header.
        associated: everything before the ciphertext.
        ciphertext: with its tag.
    """

    place: Place
    key: str
    wrapped: bytes
    nonce: bytes
    associated: bytes
    ciphertext: bytes

    @staticmethod
    def parse(content: bytes) -> "Envelope":
        """Take a sealed file apart.

        Raises:
            VaultError: it is none, was cut, or its header holds anything else than a header.
        """
        if len(content) < FIXED.size or not is_sealed(content):
            raise VaultError(
                f"the file has {len(content)} bytes and begins with {content[: len(MAGIC)]!r}, a sealed file has at "
                f"least {FIXED.size} and begins with {MAGIC!r}: restore it from a backup"
            )
        _, number, header, length = FIXED.unpack_from(content)
        if number != VERSION:
            raise VaultError(f"the file's seal has version {number}, this program reads version {VERSION}: update it")
        if header > LARGEST_HEADER or not TAG <= length <= LARGEST:
            raise VaultError(
                f"the file claims a header of {header:,} and a ciphertext of {length:,} bytes, at most "
                f"{LARGEST_HEADER:,} and {LARGEST:,} are read"
            )
        start = FIXED.size + header
        if len(content) != start + length:
            raise VaultError(
                f"the file has {len(content):,} bytes, its lengths add up to {start + length:,}: restore it from a "
                "backup"
            )
        told = _header(content[FIXED.size : start])
        place = Place.model_validate(told.model_dump(include=set(Place.model_fields)))
        wrapped, nonce = bytes.fromhex(told.wrapped), bytes.fromhex(told.nonce)
        return Envelope(place, told.key, wrapped, nonce, content[:start], content[start:])

    def require(self, place: Place) -> None:
        """Refuse an envelope that says that it belongs elsewhere.

        Raises:
            VaultError: it does.
        """
        if self.place != place:
            raise VaultError(
                f"it is sealed as {self.place}, expected {place}: it was put in another's place, restore the right "
                "one from a backup"
            )

    def opened(self, key: Key | None, what: str) -> bytes:
        """The content.

        Args:
            key: the hospital's.
            what: the setting that names it, for the error.

        Raises:
            SealedError: there is no key.
            VaultError: it is another key, or a byte of the file was changed.
        """
        # A plain vault needs none of it.
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if key is None:
            raise SealedError(f"it is sealed under key {self.key}: give that key ({what})")
        if key.id != self.key:
            raise VaultError(f"it is sealed under key {self.key}, this is key {key.id}: give the former ({what})")
        try:
            bound = _bound(self.place, self.key)
            data_key = AESGCM(key.secret).decrypt(self.wrapped[:NONCE], self.wrapped[NONCE:], bound)
            return AESGCM(data_key).decrypt(self.nonce, self.ciphertext, self.associated)
        except InvalidTag:
            raise VaultError("it was changed or damaged after it was sealed: restore it from a backup") from None


def is_sealed(content: bytes) -> bool:
    """Whether a file begins as a sealed one does."""
    return content.startswith(MAGIC)


def sealed(content: bytes, place: Place, key: Key, draw: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
    """The sealed file of `content`, under a data key of its own.

    Args:
        content: any bytes.
        place: where the file belongs.
        key: the hospital's.
        draw: so many random bytes: data key, nonce of its wrapping, nonce of the content. Only a test of the format
            may give its own: a nonce that comes twice under one key breaks the seal.

    Raises:
        VaultError: the content is too large.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(content) > LARGEST - TAG:
        raise VaultError(
            f"the file has {len(content):,} bytes, at most {LARGEST - TAG:,} can be sealed: split the task"
        )
    data_key, wrapping, nonce = draw(LENGTH), draw(NONCE), draw(NONCE)
    wrapped = wrapping + AESGCM(key.secret).encrypt(wrapping, data_key, _bound(place, key.id))
    told = _Header(**place.model_dump(), key=key.id, wrapped=wrapped.hex(), nonce=nonce.hex())
    header = canonical_json(told.model_dump(mode="json"))
    associated = FIXED.pack(MAGIC, VERSION, len(header), len(content) + TAG) + header
    return associated + AESGCM(data_key).encrypt(nonce, content, associated)


def _bound(place: Place, key: str) -> bytes:
    """To what a data key is bound: the format, the file's place, and the key that wraps it."""
    told = {**place.model_dump(mode="json"), "key": key}
    return MAGIC + VERSION.to_bytes(2, "little") + canonical_json(told)


def _header(content: bytes) -> _Header:
    try:
        header = _Header.model_validate(json.loads(content))
    except ValidationError as error:
        place = re.sub(r"[^\w.-]", "?", ".".join(str(part) for part in error.errors()[0]["loc"]))[:40]
        raise VaultError(f"the seal's header is refused at '{place}': restore the file from a backup") from None
    except (ValueError, RecursionError):
        raise VaultError("the seal's header is not JSON: restore the file from a backup") from None
    if canonical_json(header.model_dump(mode="json")) != content:
        raise VaultError("the seal's header holds more than a header: restore the file from a backup")
    return header
