import contextlib
import gc
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from braincl_med.foundation.errors import VaultError
from braincl_med.messages.shelf import Shelf

ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@given(st.lists(st.dictionaries(st.text(max_size=4), ARRAYS, max_size=4), max_size=4))
@settings(max_examples=40, deadline=None)
def test_what_was_put_there_is_read_back_bit_for_bit(tmp_path_factory, answers):
    shelf = Shelf(tmp_path_factory.getbasetemp() / "shelf")
    put = [{name: torch.from_numpy(array.copy()) for name, array in answer.items()} for answer in answers]
    for sent, read in [(sent, shelf.put(sent)) for sent in put]:
        assert read.keys() == sent.keys()
        for name, tensor in sent.items():
            assert read[name].dtype == tensor.dtype
            assert read[name].shape == tensor.shape
            assert read[name].numpy().tobytes() == tensor.numpy().tobytes()


def test_a_tensor_that_lies_otherwise_in_memory_is_the_same(tmp_path):
    turned = torch.arange(12.0).reshape(3, 4).T
    assert torch.equal(Shelf(tmp_path).put({"w": turned})["w"], turned)
    half = torch.tensor([1.5, -2.0], dtype=torch.bfloat16, requires_grad=True)
    assert torch.equal(Shelf(tmp_path).put({"w": half})["w"], half)


def test_the_file_has_no_name_and_goes_with_the_last_answer(tmp_path):
    def held():
        count = 0
        for one in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the list's own is closed by now
                count += os.readlink(f"/proc/self/fd/{one}").startswith(str(tmp_path))
        return count

    answers = [Shelf(tmp_path).put({"w": torch.ones(3)}) for _ in range(5)]
    assert list(tmp_path.iterdir()) == []
    assert held() == 5
    assert all(float(answer["w"].sum()) == 3 for answer in answers)
    del answers
    gc.collect()
    assert held() == 0


def test_an_answer_without_tensors_needs_no_file(tmp_path):
    assert Shelf(tmp_path / "none").put({}) == {}
    assert not (tmp_path / "none").exists()


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(VaultError, match="the disk is full"):
        Shelf(tmp_path).put({"w": torch.ones(3)})
