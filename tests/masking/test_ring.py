"""Fixed point in a ring: sums are exact, head-room holds at its edge, and what is clipped is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braincl_med.masking.ring import Field, Layout


@st.composite
def layouts(draw):
    hospitals = draw(st.integers(1, 100))
    fields = [
        Field(
            f"f{number}",
            tuple(draw(st.lists(st.integers(1, 4), max_size=2))),
            draw(st.integers(-4, 24)),
            draw(st.sampled_from([32, 64])),
            draw(st.booleans()),
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    room = [f for f in fields if not (f.whole and (f.bits == 32 or f.magnitude < 1))]
    return Layout(tuple(room) or (Field("f", (2,), 3),), hospitals)


@given(layouts(), st.integers(0, 2**32 - 1))
def test_a_sum_in_the_ring_is_the_sum_of_what_was_rounded_wherever_it_lies(layout, seed):
    rng = np.random.default_rng(seed)
    total = {bits: 0 for bits in layout.lengths}
    plain = {field.name: np.zeros(field.shape) for field in layout.fields}
    for _ in range(layout.hospitals):
        values = {}
        for field in layout.fields:
            limit = 2.0**field.magnitude
            edge = rng.choice([-1.0, 1.0], field.shape) * limit
            inside = rng.uniform(-limit, limit, field.shape)
            values[field.name] = np.where(rng.random(field.shape) < 0.3, edge, inside)
        vectors, _ = layout.encode(values.items())
        for name, numbers in layout.decode(vectors).items():
            plain[name] += numbers
        for bits, vector in vectors.items():
            total[bits] = total[bits] + vector
    summed = layout.decode(total)
    for field in layout.fields:
        assert np.abs(plain[field.name]).max(initial=0) <= layout.hospitals * 2.0**field.magnitude
        np.testing.assert_allclose(summed[field.name], plain[field.name], rtol=1e-12, atol=0)


def test_rounding_is_half_a_step_at_most_and_integers_are_exact():
    layout = Layout((Field("n", (), 27, whole=True), Field("w", (1000,), 14, 32)), 10)
    numbers = np.random.default_rng(0).uniform(-(2.0**14), 2.0**14, 1000)
    vectors, clipped = layout.encode([("n", np.array(123456789 % 2**27)), ("w", numbers)])
    found = layout.decode(vectors)
    step = 2.0 ** -layout.fields[1].fraction(10)
    assert clipped == 0
    assert found["n"] == 123456789 % 2**27
    assert np.abs(found["w"] - numbers).max() <= step / 2


def test_what_lies_beyond_is_clipped_and_counted_and_what_is_no_number_refused():
    layout = Layout((Field("w", (3,), 2, 32),), 3)
    vectors, clipped = layout.encode([("w", np.array([5.0, -1e30, 1.0]))])
    found = layout.decode(vectors)["w"]
    assert clipped == 2
    np.testing.assert_allclose(found, [4, -4, 1], atol=1e-6)
    for number in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            layout.encode([("w", np.array([0, number, 0]))])
    with pytest.raises(ValueError, match="no field"):
        layout.encode([("v", np.zeros(3))])
    with pytest.raises(ValueError, match="no field"):
        layout.encode([("w", np.zeros(4))])
    with pytest.raises(ValueError, match="does not fit into 32 bits"):
        Layout((Field("n", (), 31, 32, whole=True),), 3).encode([("n", np.array(1))])
