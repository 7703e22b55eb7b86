"""Sums are exact whoever drops out, one masked vector is noise, and what a lying server asks is refused."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest

from braincl_med.foundation.errors import FederationError
from braincl_med.masking.agreement import new_private, public_of, shared_secret
from braincl_med.masking.identity import own_identity
from braincl_med.masking.protocol import mask, objection_to_members, reveal, signed_text, unmask
from braincl_med.masking.wire import Member
from tests.masking.hospitals import Round


@pytest.mark.parametrize(
    ("count", "threshold", "late", "silent"),
    [
        (3, 2, (), ()),
        (3, 2, ("site-1",), ()),
        (3, 2, (), ("site-0",)),
        (5, 4, ("site-2",), ()),
        (6, 4, ("site-0", "site-5"), ()),
        (6, 4, ("site-0",), ("site-3",)),
        (6, 4, (), ("site-1", "site-4")),
    ],
)
def test_the_sum_is_exact_whoever_drops_out_before_or_after(count, threshold, late, silent):
    one = Round(count, threshold, late)
    total = one.total()
    survivors = [name for name in one.alive if name not in silent]
    unmask(total, one.digests, one.dropped, one.told(survivors), threshold, one.context)
    for bits, vector in one.total("plain").items():
        assert np.array_equal(total[bits], vector)
        assert not np.array_equal(one.total()[bits], vector), "masks of the dropped, and own ones, must be taken off"


def test_any_survivors_at_the_threshold_will_do_and_one_fewer_will_not():
    one = Round(5, 3, ("site-4",))
    for survivors in combinations(one.alive, 3):
        total = one.total()
        unmask(total, one.digests, one.dropped, one.told(survivors), 3, one.context)
        assert np.array_equal(total[32], one.total("plain")[32])
    with pytest.raises(FederationError, match="2 hospitals told the shares that unmask a sum, 3 must"):
        unmask(one.total(), one.digests, one.dropped, one.told(one.alive[:2]), 3, one.context)


def uneven(content):
    """χ² of bytes over 256 values, in standard deviations from its mean: beyond 5 once in millions of noises."""
    counts = np.bincount(np.frombuffer(content, np.uint8), minlength=256)
    expected = counts.sum() / 256
    return (((counts - expected) ** 2 / expected).sum() - 255) / np.sqrt(2 * 255)


def test_one_masked_vector_is_noise_and_an_unmasked_one_is_not():
    one = Round(3, 2, size=1 << 16)
    for name in one.alive:
        for bits in (32, 64):
            assert abs(uneven(one.masked[name][bits].tobytes())) < 5
            assert uneven(one.plain[name][bits].tobytes()) > 1000
    # Nor does it tell of its own numbers, or of anybody else's masked ones.
    first, second = (one.masked[name][32].astype(np.float64) for name in one.alive[:2])
    plain = one.plain[one.alive[0]][32].astype(np.int32)
    assert abs(np.corrcoef(first, plain)[0, 1]) < 5 / np.sqrt(len(plain))
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(len(plain))


def test_without_one_hospitals_numbers_the_sum_of_the_others_is_noise():
    one = Round(4, 3, size=1 << 14)
    partly = {name: one.masked[name] for name in one.alive[:3]}
    total = {bits: sum(v[bits] for v in partly.values()) for bits in (32, 64)}
    digests = {name: one.digests[name] for name in partly}
    told = one.told(one.alive)
    with pytest.raises(FederationError):
        unmask(total, digests, ["site-3"], told, 3, one.context)
    assert abs(uneven(total[32].tobytes())) < 5


@pytest.mark.parametrize(
    ("alive", "dropped", "reason"),
    [
        (("site-0", "site-1", "site-2", "site-3"), ("site-3",), "overlap"),
        (("site-0", "site-1", "site-2"), (), "are not those of this sum"),
        (("site-0", "site-1", "site-2", "site-3"), ("site-9",), "are not those of this sum"),
        (("site-0", "site-0", "site-1", "site-2"), ("site-3",), "are not those of this sum"),
        (("site-0", "site-1"), ("site-2", "site-3"), "2 hospitals are said to have answered, expected 3"),
        (("site-1", "site-2", "site-3"), ("site-0",), "this one among them"),
    ],
)
def test_a_hospital_tells_no_share_over_lists_that_do_not_add_up(alive, dropped, reason):
    one = Round(4, 3)
    with pytest.raises(FederationError, match=reason):
        reveal(one.parties["site-0"], alive, dropped, one.boxes("site-0"))
    assert reveal(one.parties["site-0"], one.alive, [], one.boxes("site-0")).keys() == set(one.alive)


def test_shares_tell_own_masks_of_the_alive_and_pairs_with_the_dropped_and_nothing_else():
    one = Round(4, 3, ("site-3",))
    told = reveal(one.parties["site-0"], one.alive, one.dropped, one.boxes("site-0"))
    assert {name: len(share) for name, share in told.items()} == dict.fromkeys(one.alive, 2 * 33)
    everybody = Round(4, 3)
    told = reveal(everybody.parties["site-0"], everybody.alive, [], everybody.boxes("site-0"))
    assert {len(share) for share in told.values()} == {33}


def test_shares_are_for_one_hospital_of_one_sum():
    one = Round(3, 2)
    boxes = one.boxes("site-0")
    changed = bytes([boxes["site-1"][0] ^ 1]) + boxes["site-1"][1:]
    for other in (changed, one.boxes("site-2")["site-1"], boxes["site-2"], b""):
        with pytest.raises(FederationError, match="the shares of site-1 are not what it sealed for this sum"):
            reveal(one.parties["site-0"], one.alive, [], {**boxes, "site-1": other})
    with pytest.raises(FederationError, match="the shares of site-1 were not handed on"):
        reveal(one.parties["site-0"], one.alive, [], {name: boxes[name] for name in ("site-0", "site-2")})
    later = dataclasses.replace(one.parties["site-0"], context=bytes(32))
    with pytest.raises(FederationError, match="not what it sealed for this sum"):
        reveal(later, one.alive, [], boxes)


def test_hospitals_that_were_sent_different_networks_have_masks_that_do_not_cancel(monkeypatch):
    # Own masks that are known, so that those of pairs are all that hides.
    monkeypatch.setattr("braincl_med.masking.protocol.secrets.token_bytes", lambda count: bytes(count))
    one = Round(3, 2)
    told, sound = one.told(one.alive), one.total()
    unmask(sound, one.digests, [], told, 2, one.context)
    assert np.array_equal(sound[32], one.total("plain")[32])
    odd = {bits: vector.copy() for bits, vector in one.plain["site-0"].items()}
    sealed = mask(dataclasses.replace(one.parties["site-0"], context=bytes(32)), odd)
    one.masked["site-0"] = odd
    total = one.total()
    unmask(total, one.digests, [], told, 2, one.context)
    assert not np.array_equal(total[32], one.total("plain")[32])
    assert abs(uneven(total[32].tobytes())) < 5
    # And nobody opens shares that were sealed for another network.
    one.sealed["site-0"] = sealed
    with pytest.raises(FederationError, match="the shares of site-0 are not what it sealed for this sum"):
        one.told(["site-1"])


def test_a_share_that_was_changed_is_found_before_it_spoils_a_sum():
    one = Round(4, 3)
    told = one.told(one.alive[:3])
    told["site-1"]["site-2"] = bytes(33)
    with pytest.raises(FederationError, match="shares of the masks of site-2 do not fit"):
        unmask(one.total(), one.digests, [], told, 3, one.context)


def test_a_key_that_keeps_no_secret_is_refused():
    with pytest.raises(FederationError, match="is no key"):
        shared_secret(new_private(), bytes(32))


SESSION = ("tiny", 0, "0" * 32)


@pytest.fixture(scope="module")
def signatories(tmp_path_factory):
    folder = tmp_path_factory.mktemp("identities")
    return {f"site-{n}": own_identity(folder / f"{n}" / "identity", f"site-{n}") for n in range(5)}


def members_of(signatories, session=SESSION, count=4):
    keys = {name: public_of(new_private()).hex() for name in sorted(signatories)[:count]}
    return [
        Member(hospital=name, public=key, signature=signatories[name].sign(signed_text(*session, name, key)).hex())
        for name, key in keys.items()
    ]


def test_members_that_pinned_identities_signed_are_taken_and_no_others(signatories):
    pinned = {name: identity.public for name, identity in signatories.items() if name != "site-4"}
    members = members_of(signatories)

    def objection(members, threshold=3, session=SESSION, pins=pinned, own=("site-0", members[0].public), most=4):
        return objection_to_members(members, own, session, pins, threshold, most)

    assert objection(members) is None
    stranger = members_of(signatories, count=5)[4]
    swapped = members[1].model_copy(update={"public": stranger.public})
    forged = members[1].model_copy(update={"signature": members[2].signature})
    for changed, reason in [
        ([*members[:3], stranger], "'site-4' is no hospital whose identity is pinned here"),
        ([members[0], swapped, *members[2:]], "the key of 'site-1' is not signed"),
        ([members[0], forged, *members[2:]], "the key of 'site-1' is not signed"),
        (members[:2], "2 hospitals are too few"),
        ([*members[:3], members[2]], "named twice"),
        (members[1:], "this hospital's own key is not among them"),
    ]:
        assert reason in objection(changed)
    assert "3 hospitals are too few: at least 4" in objection(members[:3], threshold=4)
    assert "must be more than half" in objection(members, threshold=2)
    assert "more than the 3 of this experiment" in objection(members, most=3)
    assert "own key is not among them" in objection(members, own=("site-0", stranger.public))
    for other in (("tiny", 1, "0" * 32), ("tiny", 0, "1" * 32), ("other", 0, "0" * 32)):
        assert "is not signed" in objection(members, session=other), "a key serves one session of one experiment"
    assert "'site-3' is no hospital" in objection(members, pins={n: p for n, p in pinned.items() if n != "site-3"})
