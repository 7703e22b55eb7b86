"""The envelope: what comes out is what went in, at its place and under its key alone."""

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braincl_med.foundation.errors import SealedError, VaultError
from braincl_med.vault.envelope import FIXED, Envelope, Place, is_sealed, sealed
from braincl_med.vault.keys import Key

from .test_cuefile import KINDS, cue_file

GOLDEN = Path(__file__).parent / "golden" / "sealed-version-1.cue"
KEY, OTHER = Key(bytes(range(32))), Key(bytes(32))
PLACE = Place(hospital="site-0", experiment="trial", task=0, memory="working", part="cue-file")
CONTENT = b"cues and a network" * 7


def counting():
    """Random bytes that are none: 0, 1, 2, … over all draws."""
    drawn = iter(range(256))
    return lambda count: bytes(next(drawn) for _ in range(count))


def opened(content, key=KEY, place=PLACE):
    envelope = Envelope.parse(content)
    envelope.require(place)
    return envelope.opened(key, "vault-key")


PLACES = st.builds(
    Place,
    hospital=st.sampled_from(["site-0", "site-1", "Klinik Süd", "a" * 63]),
    experiment=st.sampled_from(["trial", "demo"]),
    task=st.integers(0, 2**16 - 1),
    memory=st.sampled_from(["working", "long-term"]),
    part=st.sampled_from(["cue-file", "cues", "network"]),
)


@given(st.binary(max_size=300), PLACES, st.binary(min_size=32, max_size=32))
def test_what_is_sealed_comes_out_again_and_no_two_envelopes_are_alike(content, place, secret):
    key = Key(secret)
    first, second = sealed(content, place, key), sealed(content, place, key)
    assert opened(first, key, place) == opened(second, key, place) == content
    assert first != second
    assert len(first) == len(second)
    assert is_sealed(first)
    assert len(content) < 12 or content not in Envelope.parse(first).ciphertext


@settings(max_examples=300)
@given(st.data())
def test_every_changed_byte_is_refused(data):
    content = bytearray(sealed(CONTENT, PLACE, KEY))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(VaultError) as refused:
        opened(bytes(content))
    assert "\n" not in str(refused.value)


@given(st.integers(0, len(sealed(CONTENT, PLACE, KEY)) - 1), st.binary(max_size=3))
def test_every_truncation_and_addition_is_refused(length, more):
    content = sealed(CONTENT, PLACE, KEY)
    with pytest.raises(VaultError):
        opened(content[:length])
    if more:
        with pytest.raises(VaultError, match="its lengths add up to"):
            opened(content + more)


@given(PLACES, PLACES)
def test_an_envelope_in_another_place_is_refused_and_cannot_be_readdressed(place, other):
    content = sealed(CONTENT, place, KEY)
    if place == other:
        return
    with pytest.raises(VaultError, match=r"it is sealed as the .* it was put in another's place"):
        opened(content, place=other)
    # Whoever writes another's address on it changes what its data key is bound to.
    _, _, length, _ = FIXED.unpack_from(content)
    forged = sealed(CONTENT, other, KEY)
    _, _, size, _ = FIXED.unpack_from(forged)
    header = forged[FIXED.size : FIXED.size + size]
    for name in ("wrapped", "nonce"):
        text = re.search(rb'"%b":"([0-9a-f]+)"' % name.encode(), content).group(1)
        header = re.sub(rb'("%b":")[0-9a-f]+' % name.encode(), rb"\g<1>" + text, header)
    start = FIXED.size + length
    readdressed = content[:16] + struct.pack("<I", len(header)) + content[20:28] + header + content[start:]
    with pytest.raises(VaultError, match="was changed or damaged after it was sealed"):
        opened(readdressed, place=other)


def test_a_place_that_a_terminal_would_take_for_more_is_written_as_escapes():
    place = PLACE.model_copy(update={"hospital": "a\x1b[2J\nb"})
    with pytest.raises(VaultError, match=r"at 'a\\x1b\[2J\\nb'") as refused:
        opened(sealed(CONTENT, place, KEY))
    assert "\n" not in str(refused.value)


def test_a_wrong_key_and_a_missing_one_are_named_by_their_ids():
    content = sealed(CONTENT, PLACE, KEY)
    with pytest.raises(VaultError, match=f"it is sealed under key {KEY.id}, this is key {OTHER.id}: give the former"):
        opened(content, OTHER)
    with pytest.raises(SealedError, match=rf"it is sealed under key {KEY.id}: give that key \(vault-key\)"):
        opened(content, None)


def test_the_clear_part_tells_the_place_and_no_class_name_or_count():
    file = cue_file()[0]
    content = sealed(file.to_bytes(), PLACE, KEY)
    clear = Envelope.parse(content).associated
    assert b"set/0" not in content
    assert b"records" not in content
    assert b'"experiment":"trial","hospital":"site-0","key":"' in clear
    assert KEY.secret not in content


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"task":0', b'"task":x', "header is not JSON"),
        (b'"task":0', b'"tusk":0', "header is refused at '"),
        (b'"part":"cue-file"', b'"part":"cue-felt"', "header is refused at 'part'"),
        (b'"task":0', b'"task": 0', "holds more than a header"),
    ],
)
def test_a_header_that_no_writer_gives_is_refused(old, new, reason):
    content = sealed(CONTENT, PLACE, KEY)
    _, _, length, _ = FIXED.unpack_from(content)
    changed = content.replace(old, new)
    changed = changed[:16] + struct.pack("<I", length + len(new) - len(old)) + changed[20:]
    with pytest.raises(VaultError, match=reason):
        opened(changed)


def test_lengths_beyond_the_limits_and_other_versions_are_refused():
    content = bytearray(sealed(CONTENT, PLACE, KEY))
    for place, kind, value, reason in (
        (14, "<H", 2, "seal has version 2, this program reads version 1"),
        (16, "<I", 2**20, "claims a header of 1,048,576"),
        (20, "<Q", 2**40, "a ciphertext of 1,099,511,627,776 bytes"),
        (20, "<Q", 3, "a ciphertext of 3 bytes"),
    ):
        changed = bytearray(content)
        struct.pack_into(kind, changed, place, value)
        with pytest.raises(VaultError, match=reason):
            opened(bytes(changed))


def test_golden_file():
    """Pins every byte of version 1: the golden cue file, under a fixed key, data key and nonces."""
    file, cues = cue_file(kinds=KINDS, key="k")
    header = file.header.model_copy(update={"coder": "constriction 0.5.0"})
    plain = type(file).pack(header, cues, file.tables, file.completion).to_bytes()
    assert plain == (GOLDEN.parent / "version-3.cue").read_bytes()
    assert sealed(plain, PLACE, KEY, counting()) == GOLDEN.read_bytes()
    assert opened(GOLDEN.read_bytes()) == plain
    assert KEY.id == "e53d995b"


def test_the_worked_example_of_the_docs_decodes_the_golden_file():
    page = (Path(__file__).parents[2] / "docs" / "cue-format.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1)
    assert len(code.splitlines()) <= 20
    held = {"content": GOLDEN.read_bytes(), "key": KEY.secret}
    exec(code, held)
    assert held["plain"] == (GOLDEN.parent / "version-3.cue").read_bytes()
