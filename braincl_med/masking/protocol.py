"""A sum of which nobody sees a part, after Bonawitz et al. 2017, as functions of what each side holds.

    hospital v:   y_v = x_v + stream(b_v) + Σ_(u > v) stream(s_vu) − Σ_(u < v) stream(s_vu)        modulo 2^bits
    server:       Σ_alive y_v − Σ_alive stream(b_v) − what dropped ones left unpaired  =  Σ_alive x_v

b_v is drawn for the one sum; s_vu is what v and u agreed on, for the one sum. With its numbers v hands over shares of
b_v and of every s_vu, sealed for each hospital. Survivors open them and tell, of every v that is alive, its share of
b_v and of s_vu with each u that dropped, and nothing else: so numbers that come late stay covered by their own b, and
those that came by their pairs. Bonawitz et al. share, an exchange earlier, the key from which a hospital's pairs
follow; here each pair's secret of one sum is shared: the exchange falls away, and a dropped hospital's key lives on.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from braincl_med.foundation.errors import FederationError
from braincl_med.masking.agreement import KEY, add_stream, mask_seed, seal, shared_secret, unseal
from braincl_med.masking.identity import signed
from braincl_med.masking.ring import Vectors
from braincl_med.masking.shamir import SHARE, combine, split, weights
from braincl_med.masking.wire import Member
from braincl_med.settings.federation import FEWEST_MASKED


@dataclass(frozen=True)
class Party:
    """One hospital of one sum.

    Attributes:
        name: its own.
        private: its key of the session.
        publics: of every member by name, its own among them.
        threshold: how many shares tell a secret.
        context: digest of all that is told to every member.
    """

    name: str
    private: bytes
    publics: Mapping[str, bytes]
    threshold: int
    context: bytes

    @property
    def members(self) -> list[str]:
        """All names in order; the first is holder 1 of shares."""
        return sorted(self.publics)

    def secret(self, other: str) -> bytes:
        """What this hospital shares with another, or with itself alone."""
        return shared_secret(self.private, self.publics[other])


@dataclass(frozen=True)
class Sealed:
    """What goes with masked numbers: shares for each member, sealed, and digests of the secrets, member by member."""

    boxes: Mapping[str, bytes]
    digests: tuple[str, ...]


def signed_text(experiment: str, task: int, session: str, hospital: str, public: str) -> bytes:
    """What a hospital signs when it makes a key for a session."""
    parts = ("braincl-med masking key 1", experiment, str(task), session, hospital, public)
    return b"".join(len(part.encode()).to_bytes(2) + part.encode() for part in parts)


def objection_to_members(
    members: Sequence[Member],
    own: tuple[str, str],
    told: tuple[str, int, str],
    pinned: Mapping[str, str],
    threshold: int,
    most: int,
) -> str | None:
    """Why a hospital takes no part in a sum over such members, or None.

    Args:
        members: as the server says.
        own: this hospital's name and public key of the session.
        told: experiment, task and session.
        pinned: identities by hospital, which no server chose.
        threshold: of the sum.
        most: for how many hospitals the numbers leave head-room.
    """
    names = [member.hospital for member in members]
    if len(set(names)) < len(names):
        return "a hospital is named twice"
    if len(names) < max(FEWEST_MASKED, threshold):
        return f"{len(names)} hospitals are too few: at least {max(FEWEST_MASKED, threshold)} must be in a sum"
    if len(names) > most:
        return f"{len(names)} hospitals are more than the {most} of this experiment"
    if 2 * threshold <= len(names):
        return f"a threshold of {threshold} of {len(names)} could be met by two halves: it must be more than half"
    if own not in [(member.hospital, member.public) for member in members]:
        return "this hospital's own key is not among them"
    for member in members:
        if member.hospital not in pinned:
            return f"'{member.hospital}' is no hospital whose identity is pinned here"
        text = signed_text(*told, member.hospital, member.public)
        if not signed(text, bytes.fromhex(member.signature), pinned[member.hospital]):
            return f"the key of '{member.hospital}' is not signed by the identity that is pinned for it"
    return None


def mask(party: Party, vectors: Vectors) -> Sealed:
    """Mask numbers in place, and seal shares of every mask for every member."""
    held = []
    for other in party.members:
        if other == party.name:
            seed, sign = secrets.token_bytes(KEY), 1
        else:
            seed = mask_seed(party.secret(other), party.context, party.name, other)
            sign = _sign(party.name, other)
        add_stream(seed, list(vectors.values()), sign)
        held.append(seed)
    shares = [split(seed, party.threshold, len(held)) for seed in held]
    boxes = {
        other: seal(party.secret(other), party.context, party.name, other, b"".join(share[place] for share in shares))
        for place, other in enumerate(party.members)
    }
    return Sealed(boxes, tuple(_digest(party.context, seed) for seed in held))


def _sign(one: str, other: str) -> int:
    """With which sign `one` takes the mask that it shares with `other`."""
    return 1 if one < other else -1


def _digest(context: bytes, seed: bytes) -> str:
    """By which the server sees that shares told it the right secret; nobody guesses 32 random bytes."""
    return hashlib.sha256(context + seed).hexdigest()


def reveal(
    party: Party, alive: Sequence[str], dropped: Sequence[str], boxes: Mapping[str, bytes]
) -> dict[str, bytes]:
    """A survivor's shares, by the alive hospital whose masks they are of.

    Args:
        party: the survivor.
        alive, dropped: who answered and who did not, as the server says.
        boxes: sealed by each of the alive for this hospital.

    Raises:
        FederationError: the lists overlap, leave somebody out or are below the threshold, this hospital is not alive
            though it answered, or a box is missing or not what its sender sealed.
    """
    if set(alive) & set(dropped) or sorted([*alive, *dropped]) != party.members:
        raise FederationError("alive and dropped hospitals overlap, or are not those of this sum: no share was told")
    if party.name not in alive or len(alive) < party.threshold:
        raise FederationError(
            f"{len(alive)} hospitals are said to have answered, expected {party.threshold} or more and this one "
            "among them: no share was told"
        )
    places = {name: place for place, name in enumerate(party.members)}
    found = {}
    for other in alive:
        if other not in boxes:
            raise FederationError(f"the shares of {other} were not handed on: none were told")
        content = unseal(party.secret(other), party.context, other, party.name, boxes[other])
        if len(content) != SHARE * len(places):
            raise FederationError(f"{other} sealed {len(content)} bytes of shares, expected {SHARE * len(places)}")
        wanted = [places[name] for name in (other, *sorted(dropped))]
        found[other] = b"".join(content[SHARE * place : SHARE * (place + 1)] for place in wanted)
    return found


def unmask(
    total: Vectors,
    digests: Mapping[str, Sequence[str]],
    dropped: Sequence[str],
    told: Mapping[str, Mapping[str, bytes]],
    threshold: int,
    context: bytes,
) -> None:
    """Take the masks off a sum, in place.

    Args:
        total: of the masked numbers of all that are alive, modulo 2^bits.
        digests: of each of these, as it handed them over.
        dropped: members without numbers.
        told: shares by survivor and by whose masks they are of, as from `reveal`.
        threshold: how many shares tell a secret.
        context: of the sum.

    Raises:
        FederationError: fewer survivors than the threshold, or their shares are of another secret.
    """
    members = sorted([*digests, *dropped])
    length = SHARE * (1 + len(dropped))
    sound = [name for name in sorted(told) if all(len(told[name].get(v, b"")) == length for v in digests)]
    if len(sound) < threshold:
        raise FederationError(f"{len(sound)} hospitals told the shares that unmask a sum, {threshold} must")
    holders = {members.index(name) + 1: name for name in sound[:threshold]}
    counts = weights(list(holders))
    for one in sorted(digests):
        for number, other in enumerate((one, *sorted(dropped))):
            part = slice(SHARE * number, SHARE * (number + 1))
            seed = combine({holder: told[name][one][part] for holder, name in holders.items()}, counts)
            if seed is None or _digest(context, seed) != digests[one][members.index(other)]:
                raise FederationError(
                    f"shares of the masks of {one} do not fit: one of {', '.join(holders.values())} told others than "
                    "it was given, or its machine is broken"
                )
            add_stream(seed, list(total.values()), -1 if other == one else -_sign(one, other))
