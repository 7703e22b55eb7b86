"""Damaged and forged cue files: each is refused with a reason, in bounded time and memory, and none is executed.

A forged file has a right checksum, so that it reaches the checks behind it. Where a forgery is a valid file of its
own, the manifest's SHA-256 refuses it.
"""

import hashlib
import json
import random
import resource
import struct
import sys
import time
from pathlib import Path

import pytest

from braincl_med.foundation.errors import VaultError
from braincl_med.vault.cuefile import FIXED, CueFile
from braincl_med.vault.vault import Vault
from braincl_med.vault.verify import decoded
from tests.children import CONTEXT

from .test_cuefile import cue_file, resealed

MEMORY = 2**29
"""Bytes that reading one file may take beyond what the process has."""
SECONDS = 1.0
CHECKSUM = 32
FORBIDDEN = ("pickle", "marshal", "exec", "os.exec", "os.fork", "os.posix_spawn", "os.system", "subprocess", "socket")
LENGTHS = struct.calcsize("<8sHH")
"""Where the lengths of the parts begin."""


def parts_of(content):
    """The spans of a cue file's fixed part, header, tables, completion network and payload."""
    ends = [FIXED.size]
    for length in FIXED.unpack_from(content)[3:]:
        ends.append(ends[-1] + length)
    return [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]


def damaged(content, chance):
    """A file that was changed without its checksum: bytes flipped, cut off, inserted, doubled, moved, overwritten."""
    changed, size = bytearray(content), len(content)
    while bytes(changed) == content:
        place, length = chance.randrange(size), chance.randint(1, 64)
        other = chance.randrange(size)
        match chance.randrange(7):
            case 0:
                for _ in range(chance.randint(1, 8)):
                    changed[chance.randrange(size)] ^= chance.randint(1, 255)
            case 1:
                del changed[place:]
            case 2:
                del changed[place : place + length]
            case 3:
                changed[place:place] = chance.randbytes(length)
            case 4:
                changed[place:place] = changed[other : other + length]
            case 5:
                changed[place : place + length] = changed[other : other + length]
            case 6:
                changed[place : place + length] = chance.randbytes(length)
        size = len(changed) or 1
        changed = changed or bytearray(1)
    return bytes(changed)


def with_fixed(content, chance):
    """Forge version, reserved bytes or a length; at times another length makes up for it."""
    changed, fields = bytearray(content), [(8, "<H"), (10, "<H"), (12, "<I"), (16, "<Q"), (24, "<Q"), (32, "<Q")]
    place, kind = chance.choice(fields)
    most = 2 ** (8 * struct.calcsize(kind)) - 1
    (value,) = struct.unpack_from(kind, changed, place)
    near = value + chance.choice([-72, -40, -32, -8, -4, -2, -1, 1, 2, 4, 8, 32, 40, 72])
    new = chance.choice([0, 1, 2, most, most // 2, 2**31 - 1, 2**24, chance.randint(0, most), near, near])
    struct.pack_into(kind, changed, place, min(max(new, 0), most))
    if place > LENGTHS and chance.random() < 0.5:
        other, kind = chance.choice([f for f in fields[3:] if f[0] != place])
        (size,) = struct.unpack_from(kind, changed, other)
        struct.pack_into(kind, changed, other, max(size + value - min(max(new, 0), most), 0) % 2**64)
    return resealed(bytes(changed))


VALUES = [None, True, False, 0, 1, -1, 2, 7, 255, 2**15, 2**16, 2**31, 2**32, 2**63, 10**40, 0.5, -0.0, 1e300, ""]
VALUES += ["x", "long-term", "working", "\ud800", "a" * 300, "../../etc/passwd", [], [0], [[]], {}, {"a": 1}]
VALUES += [[0] * 5, [5, 4, 3, 2, 1], [0, 1, 2, 3, 10**30], ["__reduce__"], {"__class__": "os.system"}]


def nodes(value, path=()):
    """The path of every value within JSON."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from nodes(value[key], (*path, key))


def with_header(content, chance):
    """Forge the header: a value, a key, a shard, or its bytes."""
    span = parts_of(content)[1]
    header = json.loads(content[span])
    *path, last = chance.choice([p for p in nodes(header) if p])
    inner = header
    for key in path:
        inner = inner[key]
    text = None
    match chance.randrange(7):
        case 0 | 1 | 2:
            values = VALUES if path[:1] != ["shape"] else [v for v in VALUES if not isinstance(v, bool)]
            inner[last] = chance.choice(values)
        case 3:
            del inner[last]
        case 4:
            inner.insert(0, inner[last]) if isinstance(inner, list) else inner.update({str(last) + "x": 1})
        case 5:
            if isinstance(inner[last], int):
                inner[last] += chance.choice([-2, -1, 1, 2, 100])
            else:
                header["shards"].reverse()
        case 6:
            raw = bytearray(content[span])
            raw[chance.randrange(len(raw))] = chance.choice(b'"{}[],:0\\\x00\xff-.eE9')
            text = chance.choice([bytes(raw), b"[" * 10**5, b'{"a":' * 10**5, b"", b"null", b"NaN", b"1" * 5000])
    return with_part(content, 1, json.dumps(header).encode() if text is None else text)


def with_part(content, number, part):
    """The file with another part, its length and checksum put right."""
    parts = [content[span] for span in parts_of(content)]
    parts[number] = part
    fixed = FIXED.unpack_from(content)[:3]
    parts[0] = FIXED.pack(*fixed, *[len(p) for p in parts[1:]])
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def with_damaged_part(number):
    """Forge tables, completion network or payload: damage them, and put length and checksum right."""

    def forge(content, chance):
        return with_part(content, number, damaged(content[parts_of(content)[number]], chance))

    return forge


def rewritten(content, chance):
    """A valid file written in another way or of other cues: only the manifest can tell."""
    if chance.random() < 0.5:
        return with_part(content, 1, json.dumps(json.loads(content[parts_of(content)[1]]), indent=1).encode())
    return cue_file(records=(5, 3), seed=chance.randint(1, 99))[0].to_bytes()


"""How to mutate a file, how many times, and how many different reasons to refuse it are reached at least."""
KINDS = {
    "damaged": (damaged, 5000, 4),
    "fixed part": (with_fixed, 1500, 6),
    "header": (with_header, 2500, 10),
    "tables": (with_damaged_part(2), 1000, 4),
    "completion network": (with_damaged_part(3), 700, 1),
    "payload": (with_damaged_part(4), 700, 2),
    "rewritten": (rewritten, 100, 1),
}


def test_there_are_at_least_ten_thousand():
    assert sum(count for _, count, _ in KINDS.values()) >= 10_000


def committed(vault, entry, changed):
    """Read a mutated file in the place of the committed one."""
    path = vault.folder / entry.name
    # A new file is not flushed to the disk at once, as one that is cut off and written over is.
    path.unlink()
    path.write_bytes(changed)
    vault.load_entry(entry)


def alone(vault, entry, changed):
    """Read and decode a mutated file by itself, as if its manifest had been forged too."""
    decoded(CueFile.from_bytes(changed))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_or_forged_file_is_refused_with_a_reason(tmp_path, kind):
    outcome = outcome_of(committed, tmp_path, kind)
    assert outcome["problems"] == []
    assert outcome["refused"] == KINDS[kind][1]
    assert outcome["reasons"] >= KINDS[kind][2]
    assert outcome["slowest"] < SECONDS


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "damaged"])
def test_a_forged_file_that_is_valid_decodes_to_something_and_any_other_is_refused(tmp_path, kind):
    outcome = outcome_of(alone, tmp_path, kind)
    assert outcome["problems"] == []
    assert outcome["slowest"] < SECONDS


@pytest.mark.parametrize("name", ["channels", "hidden_channels"])
def test_a_truth_value_is_no_number_of_the_shape(name):
    content = cue_file()[0].to_bytes()
    header = json.loads(content[parts_of(content)[1]])
    header["shape"][name] = True
    with pytest.raises(VaultError):
        decoded(CueFile.from_bytes(with_part(content, 1, json.dumps(header).encode())))


def outcome_of(read, folder, kind):
    """What happened to a child process that read all mutations of a kind with little memory."""
    Vault(folder).remember(cue_file()[0])
    here, there = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(target=read_all, args=(there, read, folder, kind))
    child.start()
    there.close()
    outcome = here.recv()
    child.join()
    assert child.exitcode == 0
    return outcome


def read_all(pipe, read, folder, kind):
    """Read each mutation of the committed file; problems are other errors than a refusal, and executions."""
    vault = Vault(folder)
    entry = vault.entry(0)
    content = (folder / entry.name).read_bytes()
    mutate, count, _ = KINDS[kind]
    # Whatever is imported when it is first needed is needed here, before anything is watched.
    decoded(vault.load(0))
    mutate(content, random.Random(0))
    executed = watch()
    chance = random.Random(kind)
    limit = own_memory() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    refused, slowest, problems, reasons = 0, 0.0, [], set()
    for number in range(count):
        changed = content
        while changed == content:
            changed = mutate(content, chance)
        began = time.process_time()
        try:
            read(vault, entry, changed)
        except VaultError as error:
            refused += 1
            reasons.add(str(error).split("': ")[-1][:24])
        except BaseException as error:
            problems.append(f"{number}: {type(error).__name__}: {error}"[:300])
        slowest = max(slowest, time.process_time() - began)
        problems += [f"{number}: {event}" for event in executed]
        executed.clear()
    pipe.send({"refused": refused, "slowest": slowest, "problems": problems[:10], "reasons": len(reasons)})


def watch():
    """A list that receives every attempt of this process to execute something."""
    executed = []
    sys.addaudithook(lambda event, _: executed.append(event) if event.startswith(FORBIDDEN) else None)
    return executed


def own_memory():
    """The size of this process's address space in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
