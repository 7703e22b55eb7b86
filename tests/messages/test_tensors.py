import contextlib
import json
import resource

import pytest
import torch
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st

from braincl_med.foundation.errors import FederationError
from braincl_med.messages.tensors import PIECE, in_one_piece, tensors_of


def record(data, name=PIECE):
    return ArrayRecord({name: Array("uint8", (len(data),), "safetensors", data)})


def piece(header, content=b""):
    """A piece with this header, whatever it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def one(shape, kind="F32", offsets=(0, 8)):
    return {"w": {"dtype": kind, "shape": shape, "data_offsets": offsets}}


SENT = {
    "matrix": torch.arange(12.0).reshape(3, 4),
    "scalar": torch.tensor(7),
    "turned": torch.arange(12, dtype=torch.float64).reshape(3, 4).T,
    "none": torch.zeros(0, 5),
    "steps": torch.tensor([-127, 3], dtype=torch.int8),
}


def test_tensors_are_read_as_they_were_sent_and_go_in_one_piece():
    arrays = in_one_piece(SENT, Array)
    assert len(arrays) == 1
    read = tensors_of(ArrayRecord(arrays))
    assert read.keys() == SENT.keys()
    for name, tensor in SENT.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    assert tensors_of(ArrayRecord(in_one_piece({}, Array))) == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 100,
        piece(one([2]), bytes(7)),
        piece(one([2]), bytes(9)),
        piece(one([10**12]), bytes(8)),
        piece(one([10**12], offsets=(0, 4 * 10**12)), bytes(8)),
        piece(one([-1]), bytes(8)),
        piece(one([2**33, 2**33]), bytes(8)),
        piece(one([1], "O"), bytes(8)),
        piece(one([2], offsets=(8, 0)), bytes(8)),
        piece({"v": one([2])["w"], **one([2])}, bytes(8)),
        piece(b"{" * 5000),
        piece(b"[]"),
        (2**63).to_bytes(8, "little") + b"{}",
    ],
)
def test_what_is_no_piece_of_tensors_is_refused_and_nothing_is_allocated_for_it(data):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FederationError, match="its tensors cannot be read"):
        tensors_of(record(data))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@given(st.binary(max_size=300), st.integers(0, 400))
def test_damaged_pieces_are_tensors_or_refused(garbage, at):
    data = in_one_piece(SENT, Array)[PIECE].data
    damaged, read = data[:at] + garbage + data[at + len(garbage) :], {}
    with contextlib.suppress(FederationError):
        read = tensors_of(record(damaged))
    assert sum(tensor.numel() * tensor.element_size() for tensor in read.values()) <= len(damaged)


def test_other_arrays_are_refused():
    with pytest.raises(FederationError, match="other arrays than the one piece"):
        tensors_of(record(piece({}), "w"))
    with pytest.raises(FederationError, match="other arrays than the one piece"):
        tensors_of({PIECE: 1})


def test_a_swarm_of_tensors_is_refused():
    swarm = in_one_piece({f"w{number}": torch.zeros(0) for number in range(10_001)}, Array)
    with pytest.raises(FederationError, match="holds 10,001 tensors"):
        tensors_of(ArrayRecord(swarm))


def test_more_bytes_than_any_network_has_are_refused(monkeypatch):
    monkeypatch.setattr("braincl_med.messages.tensors.MOST_BYTES", 200)
    assert set(tensors_of(ArrayRecord(in_one_piece({"w": torch.ones(9)}, Array)))) == {"w"}
    with pytest.raises(FederationError, match=r"its tensors have \d+ bytes, at most 200 are read"):
        tensors_of(ArrayRecord(in_one_piece({"w": torch.ones(90)}, Array)))
