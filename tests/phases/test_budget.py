import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from braincl_med.phases.budget import bounded, everything
from braincl_med.settings.config import SleepConfig


def test_everything_is_every_sample_once():
    assert sorted(everything(torch.tensor([2, 0, 1, 1])).tolist()) == [0, 1, 2, 3]


@given(
    st.lists(st.integers(0, 5), max_size=60),
    st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    st.integers(1, 5),
    st.integers(0, 9),
)
def test_a_draw_has_all_new_samples_and_former_classes_in_turn(labels, budget, first_new, seed):
    torch.manual_seed(seed)
    labels = torch.tensor(labels, dtype=torch.long)
    taken = bounded(first_new, 6, budget)(labels)
    assert len(set(taken.tolist())) == len(taken)
    new, there = (labels >= first_new).sum(), np.bincount(labels[labels < first_new], minlength=first_new)
    counts = np.bincount(labels[taken], minlength=6)
    assert counts[first_new:].sum() == new
    former = counts[:first_new]
    assert former.sum() == min(there.sum(), round(budget * len(labels) * (6 - first_new) / 6))
    assert all(mine == of for mine, of in zip(former, there, strict=True) if mine < former.max() - 1), (
        "a class that gives less than the others has no more"
    )


def test_the_cost_of_an_epoch_does_not_grow_with_the_tasks_before():
    lengths = [len(bounded(task, task + 1, 3.0)(torch.arange(task + 1).repeat_interleave(20))) for task in range(12)]
    assert lengths == [20, 40, 60] + [80] * 9


def test_every_epoch_draws_anew():
    torch.manual_seed(0)
    labels = torch.arange(4).repeat_interleave(50)
    draw = bounded(3, 4, 1.0)
    first, second = (set(draw(labels).tolist()) for _ in range(2))
    assert len(first) == len(second) == 100
    assert first != second


def test_a_negative_budget_is_refused():
    with pytest.raises(ValueError, match="budget"):
        SleepConfig(budget=-1)
