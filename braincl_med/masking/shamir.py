"""A secret in shares, of which any `threshold` tell it and fewer tell nothing (Shamir 1979).

share of x:  f(x) = secret + a_1 x + … + a_(t−1) x^(t−1)  mod P,     secret = Σ_i f(x_i) Π_(j≠i) x_j / (x_j − x_i)
"""

import secrets
from collections.abc import Mapping, Sequence

SECRET = 32
"""Bytes of a secret."""
PRIME = 2**256 + 297
"""The least prime above all secrets."""
SHARE = 33
"""Bytes of a share."""


def split(secret: bytes, threshold: int, holders: int) -> list[bytes]:
    """Shares for holders 1, 2, … `holders`, in this order.

    Raises:
        ValueError: the secret has another length, or nobody could put it together.
    """
    if len(secret) != SECRET or not 1 <= threshold <= holders:
        raise ValueError(f"{len(secret)} bytes for {threshold} of {holders}: expected {SECRET}, and 1 ≤ t ≤ n")
    terms = [int.from_bytes(secret), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return [_value(terms, x).to_bytes(SHARE) for x in range(1, holders + 1)]


def _value(terms: Sequence[int], x: int) -> int:
    value = 0
    for term in reversed(terms):
        value = (value * x + term) % PRIME
    return value


def weights(holders: Sequence[int]) -> dict[int, int]:
    """What each holder's share counts for when just these put a secret together; the same for every secret.

    Raises:
        ValueError: a holder is named twice, or is none.
    """
    if len(set(holders)) < len(holders) or any(x < 1 for x in holders):
        raise ValueError("holders are different numbers from 1 on")
    found = {}
    for x in holders:
        above, below = 1, 1
        for other in holders:
            if other != x:
                above, below = above * other % PRIME, below * (other - x) % PRIME
        found[x] = above * pow(below, -1, PRIME) % PRIME
    return found


def combine(shares: Mapping[int, bytes], counts: Mapping[int, int]) -> bytes | None:
    """The secret of which these are shares, None where they are of none.

    Args:
        shares: by holder, as many as the threshold.
        counts: `weights` of just these holders.
    """
    value = sum(int.from_bytes(shares[x]) * counts[x] for x in counts) % PRIME
    return value.to_bytes(SECRET) if value < 2 ** (8 * SECRET) else None
