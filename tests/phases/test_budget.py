import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from braincl_med.federation.checkpoint import folder_of, load_checkpoint
from braincl_med.federation.local import run_locally
from braincl_med.foundation.errors import ConfigError
from braincl_med.phases.budget import bounded, everything
from braincl_med.settings.loading import load_experiment
from tests.federation.experiments import tiny


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{sleep: {budget: -1}}", "sleep-budget"),
        ("{method: ewc, sleep: {budget: 1}}", "on which method ewc does not train"),
        ("{method: mygo, sleep: {budget: 1}}", "on which method mygo does not train"),
        (
            "{privacy: {mode: updates}, sleep: {budget: 1}, memory: {basis: fixed}, selection: {rule: random}}",
            "draws samples by itself",
        ),
    ],
)
def test_a_budget_that_nobody_would_keep_is_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        load_experiment(text, {})


def test_an_experiment_with_a_budget_takes_fewer_steps_and_is_resumed_alike(tmp_path):
    runs = [tmp_path / name for name in ("all", "budget", "again")]
    for root, budget in zip(runs, (None, 0.5, 0.5), strict=True):
        run_locally(tiny(root, stream_task_count=2, sleep_rounds=1, sleep_budget=budget))
    weights = [load_checkpoint(folder_of(root, "tiny")).sha256 for root in runs]
    assert weights[0] != weights[1] == weights[2]
