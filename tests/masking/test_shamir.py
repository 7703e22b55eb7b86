import secrets
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braincl_med.masking.shamir import PRIME, SECRET, combine, split, weights


@given(st.binary(min_size=SECRET, max_size=SECRET), st.integers(1, 8), st.integers(0, 5), st.randoms())
def test_any_threshold_of_shares_tells_the_secret(secret, threshold, more, random):
    shares = split(secret, threshold, threshold + more)
    holders = random.sample(range(1, threshold + more + 1), threshold)
    assert combine({x: shares[x - 1] for x in holders}, weights(holders)) == secret


def test_the_edges_of_what_a_secret_can_be():
    for secret in (bytes(SECRET), b"\xff" * SECRET):
        shares = split(secret, 2, 3)
        assert {combine({x: shares[x - 1] for x in pair}, weights(pair)) for pair in combinations((1, 2, 3), 2)} == {
            secret
        }


def test_fewer_shares_leave_every_secret_possible():
    """For each secret there is one share of the missing holder that fits: what is known says nothing."""
    shares = split(secrets.token_bytes(SECRET), 3, 3)
    counts = weights((1, 2, 3))
    partly = sum(int.from_bytes(shares[x - 1]) * counts[x] for x in (1, 2)) % PRIME
    for other in (bytes(SECRET), secrets.token_bytes(SECRET)):
        fitting = (int.from_bytes(other) - partly) * pow(counts[3], -1, PRIME) % PRIME
        assert combine({1: shares[0], 2: shares[1], 3: fitting.to_bytes(33)}, counts) == other
    short = combine({x: shares[x - 1] for x in (1, 2)}, weights((1, 2)))
    assert short is None or short != combine({x: shares[x - 1] for x in (1, 2, 3)}, counts)


def test_the_prime_is_one():
    """Fermat to twenty bases, which no number of this size that is no prime has passed by chance."""
    assert PRIME > 2 ** (8 * SECRET)
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in range(2, 22))
    assert pow(3, PRIME - 3, PRIME - 2) != 1, "and the test can fail"


def test_what_nobody_could_put_together_is_refused():
    for secret, threshold, holders in ((b"short", 2, 3), (bytes(SECRET), 4, 3), (bytes(SECRET), 0, 3)):
        with pytest.raises(ValueError, match="expected 32"):
            split(secret, threshold, holders)
    for holders in ((1, 1), (0, 1)):
        with pytest.raises(ValueError, match="different numbers from 1 on"):
            weights(holders)
