"""Networks on the wire: nothing is lost, little is sent, and what is not as it was sent is refused."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braincl_med.cortex.quantised import exponents_of, is_quantised, quantised
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals
from braincl_med.foundation.errors import FederationError
from braincl_med.messages.compact import NUMBERS, coded, decoded, digest_of, size_of_tensors
from tests.federation.experiments import tiny

SCALES = st.floats(-12, 4)


def network(seed, spread=0.1):
    generator = torch.Generator().manual_seed(seed)
    return {
        "backbone.conv": spread * torch.randn(6, 3, 3, 3, generator=generator),
        "backbone.norm": torch.randn(6, generator=generator),
        "backbone.count": torch.tensor(3),
        "classifier.weight": torch.randn(4, 6, generator=generator),
    }


def moved(before, seed, scale):
    after = network(seed, scale)
    return {
        name: tensor + after[name] if tensor.is_floating_point() else tensor + 1 for name, tensor in before.items()
    }


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), scale=SCALES)
def test_a_rounded_step_goes_as_bytes_and_comes_back_bit_for_bit(seed, scale):
    before = network(seed)
    after = quantised(moved(before, seed + 1, 10.0**scale), before, seed)
    sent = coded(after, before, stepped=True)
    if scale > -4:  # smaller steps drown in the last bits of what they are added to
        assert sent.tensors[NUMBERS + "backbone.conv"].dtype == torch.int8
    received = decoded(sent.tensors, sent.digest, sent.kept, before)
    assert received.keys() == after.keys()
    assert all(torch.equal(received[name], after[name]) for name in after)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), scale=SCALES, stepped=st.booleans())
def test_a_step_that_was_not_rounded_comes_back_bit_for_bit_too(seed, scale, stepped):
    before = network(seed)
    after = moved(before, seed + 1, 10.0**scale)
    sent = coded(after, before, stepped)
    received = decoded(sent.tensors, sent.digest, sent.kept, before)
    assert all(torch.equal(received[name], after[name]) for name in after)


def test_what_the_other_end_holds_is_not_sent():
    before = network(1)
    grown = {**before, "classifier.weight": torch.ones(5, 6)}
    sent = coded(grown, before, stepped=False)
    assert set(sent.tensors) == {"classifier.weight"}
    assert size_of_tensors(sent.tensors) == 5 * 6 * 4
    assert digest_of(decoded(sent.tensors, sent.digest, sent.kept, before)) == digest_of(grown)
    assert set(coded(grown, {}, stepped=True).tensors) == set(grown), "to who holds nothing all is sent"


def test_rounding_is_right_on_average_and_off_by_less_than_a_step():
    before = {"backbone.conv": torch.zeros(2, 500)}
    after = {"backbone.conv": torch.stack([torch.linspace(-1, 1, 500), torch.linspace(-1e-3, 1e-3, 500)])}
    grid = 2.0 ** exponents_of(after["backbone.conv"].double(), 127).double()[:, None]
    assert ((after["backbone.conv"].abs().amax(1, keepdim=True) / 127 <= grid) & (grid <= 2 / 127)).all()
    off = torch.stack(
        [quantised(after, before, seed)["backbone.conv"].double() - after["backbone.conv"] for seed in range(200)]
    )
    assert (off.abs() <= grid).all()
    # A uniform share rounded at random has a variance of at most a quarter.
    assert (off.mean(0).abs() <= 5 * 0.5 * grid / np.sqrt(200)).all()
    assert off.abs().max() > 0


def test_the_same_seed_rounds_alike_and_nothing_but_the_backbones_matrices_is_rounded():
    before = network(1)
    after = moved(before, 2, 0.1)
    one, other = quantised(after, before, 7), quantised(after, before, 7)
    assert all(torch.equal(one[name], other[name]) for name in after)
    changed = {name for name in after if not torch.equal(one[name], after[name])}
    assert changed == {"backbone.conv"}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda t: t.update({NUMBERS + "backbone.conv": t[NUMBERS + "backbone.conv"].roll(1)}), "digest is another"),
        (lambda t: t.pop("exponents.backbone.conv"), "without what it is told from: 'exponents.backbone.conv'"),
        (lambda t: t.update({NUMBERS + "backbone.conv": torch.zeros(6, 2, dtype=torch.int8)}), "another shape"),
        (lambda t: t.update({NUMBERS + "backbone.conv": torch.zeros(6, 3, 3, 3)}), "another type"),
        (lambda t: t.update({NUMBERS + "backbone.other": torch.zeros(6, dtype=torch.int8)}), "'exponents.backbone.o"),
    ],
)
def test_a_network_that_came_otherwise_is_refused(spoil, reason):
    before = network(1)
    after = quantised(moved(before, 2, 0.1), before, 7)
    sent = coded(after, before, stepped=True)
    tensors = dict(sent.tensors)
    spoil(tensors)
    with pytest.raises(FederationError, match=reason):
        decoded(tensors, sent.digest, sent.kept, before)


@pytest.mark.parametrize("bits", ["8", "32"])
def test_with_8_bits_every_step_of_a_run_goes_as_bytes_and_with_32_none(tmp_path, bits):
    config = tiny(tmp_path, stream_task_count=1, federation_update_bits=bits)
    exchange, orders, told = local_exchange(local_hospitals(config)), [], []

    def listening(order):
        reports = exchange(order)
        orders.append(order.weights)
        told.extend((report.weights, order.weights) for report in reports if order.phase == "sleep")
        return reports

    Coordinator(config, listening).run()
    networks = [weights for weights in orders if weights]
    steps = [*told, *((after, before) for before, after in itertools.pairwise(networks))]
    coded_tensors = [name for after, before in steps for name in coded(after, before, stepped=True).tensors]
    as_bytes = [name for name in coded_tensors if name.startswith(NUMBERS)]
    whole = [name for name in coded_tensors if name in networks[0] and is_quantised(name, networks[0][name])]
    assert (len(as_bytes) > 0, len(whole) > 0) == ((True, False) if bits == "8" else (False, True))
