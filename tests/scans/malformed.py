"""Malformed files, drawn by seed from small valid ones; each must be read or refused, by a process that lives on.

    python -m tests.scans.malformed 5000

reads that many in a child process with bounded memory. A child that dies is counted, and another goes on behind the
file that killed it.
"""

import argparse
import contextlib
import faulthandler
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from braincl_med.scans.reading import read_file
from braincl_med.scans.refusals import ScanRefusedError
from tests.scans.files import chunk, pictures, scans

MOST_MEMORY = 4 << 30
LONGEST = 60
"""Seconds after which a file counts as one that never ends."""
EXTREMES = [b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0", b"\xff\xff", b"\x80\0", b"\0\x80", b"\x27\x10", b"\x10\x27"]
EXTREMES += [
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\x27\x10",
    b"\x10\x27\0\0",
]
MARKERS = (
    b"IHDR",
    b"PLTE",
    b"tRNS",
    b"acTL",
    b"fcTL",
    b"\xff\xc0",
    b"\xff\xc1",
    b"\xff\xc2",
    b"\xff\xc3",
    b"\xff\xc4",
)
MARKERS += (
    b"\xff\xdb",
    b"\xff\xda",
    b"\xff\xf7",
    b"\xff\x51",
    b"\xff\x52",
    b"\xff\x5c",
    b"\xff\x90",
    b"VP8",
    b"ANM",
    b"II*",
)
TAGS = [0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280103]
TAGS += [0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281101, 0x00281201, 0x00283002, 0x00283010, 0x7FE00010]
TAGS += [0x00020010, 0x00080016, 0x00080005, 0x00100020, 0x52009229, 0x52009230, 0x7FE00001, 0xFFFEE000, 0xFFFEE0DD]


def seeds():
    return sorted({**pictures(), **scans()}.items())


def malformed(number, files):
    """The name of the valid file that malformed file `number` was, and the bytes of what became of it."""
    draw = np.random.default_rng([20261126, number])
    name, content = files[draw.integers(len(files))]
    deflated = name == "deflated" and draw.random() < 0.7
    start = 144 + int.from_bytes(content[140:144], "little") if deflated else 0  # behind the meta information
    body = bytearray(zlib.decompress(content[start:], -15) if deflated else content)
    for _ in range(draw.integers(1, 4)):
        if len(body) > 8:
            change = CHANGES[draw.choice(len(CHANGES), p=ODDS)]
            body = change(draw, body, files)
    if body[:4] == b"\x89PNG" and draw.random() < 0.7:
        body = with_sums(body)
    if deflated:
        packer = zlib.compressobj(wbits=-15)
        body = content[:start] + packer.compress(bytes(body)) + packer.flush()
    return name, bytes(body)


def flipped(draw, body, _):
    end = min(len(body), 400) if draw.random() < 0.5 else len(body)
    for place in draw.integers(end, size=draw.integers(1, 9)):
        body[place] ^= 1 << draw.integers(8)
    return body


def cut(draw, body, _):
    return body[: draw.integers(1, len(body))]


def without(draw, body, _):
    start, length = draw.integers(len(body)), draw.integers(1, 80)
    return body[:start] + body[start + length :]


def repeated(draw, body, _):
    start, length = draw.integers(len(body)), draw.integers(1, 200)
    return body[: start + length] + body[start : start + length] * draw.integers(1, 20) + body[start + length :]


def extreme(draw, body, _):
    """Some bytes, mostly near the beginning, take the least or the largest values."""
    put = EXTREMES[draw.integers(len(EXTREMES))]
    place = draw.integers(max(1, min(len(body), 600 if draw.random() < 0.6 else len(body)) - 4))
    body[place : place + len(put)] = put
    return body


def forged(draw, body, _):
    """Bytes behind a marker of a stream, or of a DICOM element, take extreme values."""
    tag = TAGS[draw.integers(len(TAGS))]
    marks = (struct.pack("<HH", tag >> 16, tag & 0xFFFF), struct.pack(">I", tag), *MARKERS)
    found = [place + len(mark) for mark in marks if (place := body.find(mark)) >= 0]
    if found:
        place = found[draw.integers(len(found))] + draw.integers(0, 20)
        put = EXTREMES[draw.integers(len(EXTREMES))]
        body[place : place + len(put)] = put[: max(0, len(body) - place)]
    return body


def mixed(draw, body, files):
    """A piece of another file in the place of one of this."""
    other = files[draw.integers(len(files))][1]
    start, length = draw.integers(len(other)), draw.integers(1, 400)
    place = draw.integers(len(body))
    piece = other[start : start + length]
    return body[:place] + piece + body[place + (len(piece) if draw.random() < 0.5 else 0) :]


CHANGES = (flipped, cut, without, repeated, extreme, forged, mixed)
ODDS = (0.25, 0.08, 0.1, 0.07, 0.2, 0.22, 0.08)


def with_sums(body):
    """A PNG whose chunks have the check sums that belong to them, so that what they hold is read."""
    out, place = bytearray(body[:8]), 8
    while place + 12 <= len(body):
        (length,) = struct.unpack_from(">I", body, place)
        if length > len(body) - place - 12:
            break
        out += chunk(bytes(body[place + 4 : place + 8]), bytes(body[place + 8 : place + 8 + length]))
        place += 12 + length
    return out + body[place:]


def read(first, last, told):
    """Read malformed files and write what came of them, a line each, into the file `told`."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = seeds()
    with tempfile.TemporaryDirectory() as folder, open(told, "a", buffering=1) as lines:
        path = Path(folder) / "file"
        for number in range(first, last):
            name, content = malformed(number, files)
            path.write_bytes(content)
            lines.write(json.dumps([number, name]) + "\n")
            faulthandler.dump_traceback_later(LONGEST, exit=True)
            started = time.perf_counter()
            try:
                reading = read_file(path, 0 if number % 3 == 0 else None)
                assert reading.pixels.shape == (reading.height, reading.width, 3)
                outcome = "read"
            except ScanRefusedError as error:
                outcome = error.kind.value
            faulthandler.cancel_dump_traceback_later()
            lines.write(json.dumps([number, outcome, time.perf_counter() - started, peak()]) + "\n")


def peak():
    """The most memory of this process, in KiB; getrusage tells also of the process that it was forked from."""
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))


def tried(first, last):
    """How reading ended for each file: number, what it was, outcome, seconds, peak KiB; and what was printed."""
    came, printed = [], ""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        while first < last:
            command = [sys.executable, "-m", "tests.scans.malformed", "--child", str(first), str(last), str(told)]
            told.write_text("")
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            lines = [json.loads(line) for line in told.read_text().splitlines()]
            printed += done.stdout + done.stderr
            names = {number: name for number, name in (line for line in lines if len(line) == 2)}
            came += [(number, names[number], *rest) for number, *rest in (line for line in lines if len(line) == 4)]
            if not lines:
                raise RuntimeError(done.stderr)
            first = lines[-1][0] + 1
            if done.returncode:
                came.append((first - 1, names[first - 1], f"died {done.returncode}", 0.0, 0))
    return came, printed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        read(int(given.child[0]), int(given.child[1]), given.child[2])
        return
    started = time.perf_counter()
    came, printed = tried(given.first, given.first + given.count)
    print(f"{len(came)} files, {time.perf_counter() - started:.1f} s")
    for outcome, count in Counter(outcome for _, _, outcome, _, _ in came).most_common():
        print(f"{count:6d} {outcome}")
    for number, name, outcome, seconds, _ in sorted(came, key=lambda one: -one[3])[:5]:
        print(f"slowest: {seconds:.3f} s, file {number} from {name}: {outcome}")
    print(f"peak memory: {max(one[4] for one in came) / 1024:.0f} MiB")
    for number, name, outcome, _, _ in came:
        if outcome.startswith("died"):
            print(f"file {number} from {name}: {outcome}")
    print(f"printed: {printed[:2000]!r}")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        main()
