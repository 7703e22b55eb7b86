import io
import resource

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

from braincl_med.foundation.errors import FederationError
from braincl_med.messages.tensors import tensors_of


def record(data):
    return ArrayRecord({"w": Array("float32", (2,), "numpy.ndarray", data)})


def crafted(header, content=b""):
    """A NumPy file with this header, whatever it says."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def saved(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def test_tensors_are_read_as_they_were_sent():
    sent = {
        "matrix": torch.randn(3, 4),
        "scalar": torch.tensor(7),
        "turned": torch.randn(3, 4, dtype=torch.float64).T,
        "none": torch.zeros(0, 5),
    }
    read = tensors_of(ArrayRecord(sent))
    assert read.keys() == sent.keys()
    for name, tensor in sent.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 100,
        saved(np.zeros(3, np.float32))[:-1],
        saved(np.zeros(3, np.float32)) + b"more",
        saved(np.array(["text"])),
        crafted("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"),
        crafted("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
        crafted("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"x" * 8),
        crafted("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 400 + ",), }"),
        crafted("{'descr': ["),
        crafted("(" * 5000),
        crafted("__import__('os').abort()"),
    ],
)
def test_what_is_no_tensor_is_refused_and_nothing_is_allocated_for_it(data):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FederationError, match="its tensor 'w' cannot be read"):
        tensors_of(record(data))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_swarm_of_tensors_is_refused():
    swarm = {f"w{number}": Array("float32", (0,), "numpy.ndarray", b"") for number in range(10_001)}
    with pytest.raises(FederationError, match="holds 10,001 tensors"):
        tensors_of(ArrayRecord(swarm))


def test_more_bytes_than_any_network_has_are_refused(monkeypatch):
    monkeypatch.setattr("braincl_med.messages.tensors.MOST_BYTES", 200)
    assert set(tensors_of(record(saved(np.ones(9, np.float32))))) == {"w"}
    with pytest.raises(FederationError, match="its tensors have 208 bytes, at most 200 are read"):
        tensors_of(record(saved(np.ones(20, np.float32))))
