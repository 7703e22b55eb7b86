"""The cue file: all that one hospital keeps of one task. The format is described in docs/cue-format.md.

    0   magic "BRAINCUE"     8 bytes
    8   version (3 or 4)     u16
    10  reserved, zero       u16
    12  header length        u32     at most 16 MiB
    16  tables length        u64     at most 64 MiB
    24  completion length    u64     at most 256 MiB
    32  payload length       u64     at most 64 GiB
    40  header (JSON) · tables · completion network (rounded, entropy-coded) · payload (u32 words, shard after shard)
    end SHA-256 of everything before it, 32 bytes

Version 4 says of its basis that the task's scans did not teach it, and stores no fixed one (`memory.fixed`); other
files remain version 3.
Version 2 had no kinds in its shape (all its components are of one kind); version 1 held the completion network as
safetensors in half precision. Both are read, and stay what they are when records are taken out of them.

All integers are little-endian. Lengths must add up to the file's size exactly: no holes, no overlaps, nothing behind.
"""

import hashlib
import json
import math
import struct
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import canonical_json
from braincl_med.memory.coding import Cues, FrequencyTables, decode, encode, shard_slices
from braincl_med.memory.fixed import unpack_fixed
from braincl_med.memory.networks import FIXED_BASIS, MemoryShape, PatternCompletion, parameters_of
from braincl_med.memory.weights import pack, unpack

MAGIC = b"BRAINCUE"
VERSION = 3
OF_OTHER_BASIS = 4
READABLE = (1, 2, 3, 4)
FIXED = struct.Struct("<8sHHIQQQ")
CHECKSUM = 32
COMPLETION = 2
"""Place of the completion network among the parts."""
LIMITS = {"header": 2**24, "tables": 2**26, "completion": 2**28, "payload": 2**36}
LARGEST_SHARD = 2**30
"""Symbols of one class; bounds what a forged header can make a reader allocate (2 GiB)."""
LARGEST_NETWORK = 2**26
"""Weights of a completion network; bounds the same in another place."""
CODER = f"constriction {version('constriction')}"

Ordinal = Annotated[int, Field(ge=0, lt=2**32)]


class Shard(BaseModel):
    """One class's cues in the payload.

    Attributes:
        label: the class number.
        dataset_label: `dataset/label` of the class, so that a file explains itself.
        records: how many cues.
        words: how many 32-bit words.
        ordinals: each record's place in the order in which the task was encoded, ascending; empty when no record was
            left out and nothing was fitted anew (then the records stand in that order).
        recall_error: root mean squared error of this class's recalls when they were encoded, pixels in [0, 1]; once
            the memory was fitted anew (`vault.refit`), a bound of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: int = Field(ge=0, lt=2**16)
    dataset_label: str = Field(max_length=200)
    records: int = Field(ge=0, lt=2**32)
    words: int = Field(ge=0, lt=2**34)
    ordinals: tuple[Ordinal, ...] = ()
    recall_error: float = Field(ge=0, le=1)


class Header(BaseModel):
    """What a cue file says of itself.

    Attributes:
        experiment, task, task_name: which memory this is.
        memory: working or long-term.
        key: SHA-256 of all that decided the cues (seed, classes, memory settings, share).
        coder: the library and version that coded the payload.
        shape: of the completion network.
        shards: one a class, in the payload's order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str = Field(max_length=64)
    task: int = Field(ge=0, lt=2**16)
    task_name: str = Field(max_length=64)
    memory: str = Field(pattern="^(working|long-term)$")
    key: str = Field(max_length=64)
    coder: str = Field(max_length=64)
    shape: dict[str, Any]
    shards: tuple[Shard, ...] = Field(max_length=4096)


@dataclass(frozen=True)
class CueFile:
    """A task's memory, checked: everything but the decoded cues.

    The completion network is empty where it was sealed apart and its key was not given (`Vault.load_cues`).
    """

    header: Header
    shape: MemoryShape
    tables: FrequencyTables
    completion: bytes
    payload: bytes
    version: int = VERSION

    @staticmethod
    def pack(
        header: Header, cues: dict[int, Cues], tables: FrequencyTables, completion: bytes, version: int = VERSION
    ) -> "CueFile":
        """Code each class's cues under `tables`; fills in the shards' words.

        Args:
            header: its shards name class, records and ordinals; `words` is set here.
            cues: class number to (records, M, rows, columns).
            tables: of the whole task.
            completion: the completion network's bytes, as the version has them.
            version: of the file, which says how the completion network is stored; a basis that other scans or none
                taught has one of its own.
        """
        version = OF_OTHER_BASIS if header.shape.get("basis") else version
        words = [encode(cues[shard.label], tables) for shard in header.shards]
        shards = tuple(
            shard.model_copy(update={"words": len(w)}) for shard, w in zip(header.shards, words, strict=True)
        )
        payload = b"".join(w.astype("<u4").tobytes() for w in words)
        header = header.model_copy(update={"shards": shards})
        return CueFile(header, MemoryShape(**header.shape), tables, completion, payload, version)

    def to_bytes(self) -> bytes:
        """The file's bytes, checksum included; the same memory always gives the same bytes."""
        header = canonical_json(self.header.model_dump(mode="json"))
        tables = self.tables.to_bytes()
        fixed = FIXED.pack(MAGIC, self.version, 0, len(header), len(tables), len(self.completion), len(self.payload))
        body = b"".join([fixed, header, tables, self.completion, self.payload])
        return body + hashlib.sha256(body).digest()

    @staticmethod
    def from_bytes(content: bytes, *, without_network: bool = False) -> "CueFile":
        """Read and check a cue file; nothing is decoded before every check has passed.

        Args:
            content: the file.
            without_network: it is the first of what `split` gives. The checksum counts the network too, so only the
                seal vouches for such bytes.

        Raises:
            VaultError: says what was seen, what was expected, in one sentence.
        """
        if len(content) < FIXED.size + CHECKSUM:
            raise VaultError(f"the file has {len(content)} bytes, a cue file has at least {FIXED.size + CHECKSUM}")
        magic, number, reserved, *lengths = FIXED.unpack_from(content)
        if magic != MAGIC:
            raise VaultError(f"the file begins with {magic!r}, a cue file with {MAGIC!r}")
        if number not in READABLE or reserved != 0:
            raise VaultError(
                f"the file has version {number}, this program reads versions 1 to {READABLE[-1]}: update it"
            )
        for (name, limit), length in zip(LIMITS.items(), lengths, strict=True):
            if length > limit:
                raise VaultError(f"the {name} claims {length:,} bytes, at most {limit:,} are allowed")
        if without_network:
            lengths[COMPLETION] = 0
        expected = FIXED.size + sum(lengths) + CHECKSUM
        if len(content) != expected:
            raise VaultError(f"the file has {len(content):,} bytes, its lengths add up to {expected:,}")
        if not without_network and hashlib.sha256(content[:-CHECKSUM]).digest() != content[-CHECKSUM:]:
            raise VaultError("the checksum does not match: the file was changed or damaged after it was written")
        parts = [content[FIXED.size :][s] for s in shard_slices(list(lengths))]
        header = _header(parts[0])
        shape = _shape(header)
        if bool(shape.basis) != (number == OF_OTHER_BASIS):
            raise VaultError(f"a file of version {number} names the basis {shape.basis!r}: it was changed")
        tables = FrequencyTables.from_bytes(parts[1], shape.cue_channels)
        file = CueFile(header, shape, tables, parts[2], parts[3], number)
        file._check_shards()
        return file

    def _check_shards(self) -> None:
        words = sum(shard.words for shard in self.header.shards)
        if words * 4 != len(self.payload):
            raise VaultError(f"the shards claim {words} words, the payload has {len(self.payload)} bytes")
        labels = [shard.label for shard in self.header.shards]
        if len(set(labels)) != len(labels):
            raise VaultError(f"a class has two shards: {labels}")
        elements = math.prod(self.shape.cue)
        for shard in self.header.shards:
            if shard.records * elements > LARGEST_SHARD:
                raise VaultError(
                    f"class {shard.label} claims {shard.records:,} records of {elements:,} symbols, "
                    f"at most {LARGEST_SHARD:,} symbols are decoded at once"
                )
            if shard.ordinals and len(shard.ordinals) != shard.records:
                raise VaultError(
                    f"class {shard.label} has {shard.records} records but {len(shard.ordinals)} ordinals"
                )
            if any(a >= b for a, b in pairwise(shard.ordinals)):
                raise VaultError(f"class {shard.label} has ordinals that do not ascend")

    @property
    def records(self) -> int:
        """How many cues the file holds."""
        return sum(shard.records for shard in self.header.shards)

    def sizes(self) -> dict[str, int]:
        """Bytes by item; they add up to the file's size."""
        header = len(canonical_json(self.header.model_dump(mode="json")))
        return {
            "cues": len(self.payload),
            "tables": len(self.tables.to_bytes()),
            "completion": len(self.completion),
            "index": FIXED.size + header + CHECKSUM,
        }

    def cues(self, label: int) -> Cues:
        """Decode one class alone: (records, M, rows, columns).

        Raises:
            VaultError: the file holds no such class.
        """
        slices = shard_slices([shard.words * 4 for shard in self.header.shards])
        for shard, place in zip(self.header.shards, slices, strict=True):
            if shard.label == label:
                words = np.frombuffer(self.payload[place], "<u4").astype(np.uint32)
                return decode(words, self.tables, shard.records, self.shape.cue)
        raise VaultError(f"class {label} is not in this file, it holds {[s.label for s in self.header.shards]}")

    def network(self) -> PatternCompletion:
        """The completion network, in single precision.

        Raises:
            VaultError: its bytes are not those of a network of the header's shape, or not finite.
        """
        if self.shape.basis == FIXED_BASIS:
            return unpack_fixed(self.completion, self.shape)
        if self.version > 1:
            return unpack(self.completion, self.shape)[0]
        return _network_of_version_1(self)

    def packed_again(self, cues: dict[int, Cues]) -> "CueFile":
        """The file that these cues of all its classes and its own network give; equal to it if it holds nothing else.

        Raises:
            VaultError: the completion network cannot be read.
        """
        if self.shape.basis == FIXED_BASIS:
            self.network()
            completion = self.completion
        elif self.version > 1:
            completion = pack(*unpack(self.completion, self.shape))
        else:
            stored = self.network().state_dict()
            completion = save_tensors({name: tensor.half().contiguous() for name, tensor in stored.items()})
        tables = FrequencyTables.of(np.concatenate(list(cues.values())))
        return CueFile.pack(self.header, cues, tables, completion, self.version)


def split(content: bytes) -> tuple[bytes, bytes]:
    """A cue file's bytes without its completion network, and the network's."""
    lengths = FIXED.unpack_from(content)[3:]
    start = FIXED.size + sum(lengths[:COMPLETION])
    end = start + lengths[COMPLETION]
    return content[:start] + content[end:], content[start:end]


def joined(cues: bytes, network: bytes) -> bytes:
    """The cue file of what `split` gave; its checksum tells whether both belong together.

    Raises:
        VaultError: there are too few bytes for a cue file.
    """
    if len(cues) < FIXED.size:
        raise VaultError(f"the file has {len(cues)} bytes, a cue file has at least {FIXED.size + CHECKSUM}")
    start = FIXED.size + sum(FIXED.unpack_from(cues)[3 : 3 + COMPLETION])
    return cues[:start] + network + cues[start:]


def _network_of_version_1(file: CueFile) -> PatternCompletion:
    """The network from safetensors in half precision."""
    completion = PatternCompletion(file.shape)
    try:
        tensors = load_tensors(file.completion)
        completion.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise VaultError("the completion network does not fit the shape in the header") from error
    if not all(bool(torch.isfinite(t).all()) for t in tensors.values()):
        raise VaultError("the completion network holds numbers that are not finite")
    return completion.eval()


def _header(content: bytes) -> Header:
    try:
        return Header.model_validate(json.loads(content))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise VaultError(f"the header's '{place}' is refused: {problem['msg']}") from None
    except (ValueError, RecursionError):
        raise VaultError("the header is not JSON") from None


def _shape(header: Header) -> MemoryShape:
    try:
        shape = MemoryShape(**header.shape)
    except TypeError:
        raise VaultError(f"the header's shape has keys {sorted(header.shape)}") from None
    weights = parameters_of(shape)
    if weights > LARGEST_NETWORK:
        raise VaultError(
            f"the header asks for a network of {weights:,} weights, at most {LARGEST_NETWORK:,} are read"
        )
    return shape
