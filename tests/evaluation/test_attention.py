"""How far attention moved, held to torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional import pearson_corrcoef

from braincl_med.evaluation.attention import EDGES, correlations, counted, stayed


@given(st.integers(0, 2**32 - 1), st.integers(2, 7))
def test_correlations_are_those_of_torchmetrics(seed, side):
    before, now = np.random.default_rng(seed).random((2, 5, side, side)) ** 3
    flat = (torch.from_numpy(maps.reshape(5, -1).T) for maps in (before, now))
    assert correlations(before, now) == pytest.approx(pearson_corrcoef(*flat).numpy(), abs=1e-6)


def test_a_map_that_is_the_same_everywhere_has_no_correlation():
    maps = np.stack([np.zeros((2, 2)), np.full((2, 2), 0.1), [[0, 1], [2, 3]]])
    told = correlations(maps, np.repeat(maps[2:], 3, 0))
    assert np.isnan(told[:2]).all()
    assert told[2] == pytest.approx(1)
    assert counted(told).tolist() == [0] * 19 + [1]


def test_attention_stayed_from_half_on():
    values = np.array([-1, 0.499, 0.5, 0.75, 1, np.nan])
    assert counted(values).sum() == 5
    assert stayed(counted(values)) == 3
    assert len(counted(values)) == len(EDGES) - 1
