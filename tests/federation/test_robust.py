"""Joins that a few liars cannot move: beside scipy's, and under attack."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import trim_mean

from braincl_med.federation.aggregate import average, join_of, median, trimmed_mean
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals
from braincl_med.foundation.errors import ConfigError, FederationError
from braincl_med.messages.report import Report
from braincl_med.records.store import RunStore
from braincl_med.settings.federation import FederationConfig
from tests.federation.experiments import tiny

FINITE = st.floats(-100, 100, width=32)


def reports(values, examples=5):
    return [
        Report(f"site-{n:02}", examples + n, weights={"w": torch.from_numpy(row.copy()), "steps": torch.tensor(n)})
        for n, row in enumerate(values)
    ]


@pytest.mark.parametrize("count", [3, 4, 5, 9, 10, 17])
def test_they_are_the_ones_of_the_literature(count):
    values = np.random.default_rng(count).normal(size=(count, 6, 5)).astype(np.float32)
    told = reports(values)
    oracle = np.median(values.astype(np.float64), axis=0)
    np.testing.assert_allclose(median(told, {})["w"].numpy(), oracle, rtol=1e-6)
    share = max(1, count // 5) / count
    oracle = trim_mean(values.astype(np.float64), share + 1e-9, axis=0)
    np.testing.assert_allclose(trimmed_mean(told, {})["w"].numpy(), oracle, rtol=1e-6)
    assert median(told, {})["steps"] == trimmed_mean(told, {})["steps"] == (count - 1) // 2


@given(
    st.integers(2, 6).flatmap(lambda n: hnp.arrays(np.float32, (n, 4), elements=FINITE)),
    hnp.arrays(np.float32, 4, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
)
@settings(max_examples=60, deadline=None)
def test_one_liar_moves_no_coordinate_outside_the_honest_range(honest, lie):
    told = reports(np.concatenate([honest, lie[None]]))
    for join in (median, trimmed_mean):
        joined = join(told, {})["w"].numpy()
        assert (honest.min(0) - 1e-4 <= joined).all()
        assert (joined <= honest.max(0) + 1e-4).all()


def test_an_average_is_moved_by_the_same_liar():
    values = np.array([[0.0], [1.0], [1e6]], np.float32)
    assert average(reports(values), {})["w"] > 1e5
    assert median(reports(values), {})["w"] == trimmed_mean(reports(values), {})["w"] == 1


def test_of_two_with_samples_nobody_can_tell_which_is_wrong():
    told = [*reports(np.ones((2, 1), np.float32)), Report("site-9")]
    with pytest.raises(FederationError, match="needs 3 hospitals with samples, and 2 have any"):
        median(told, {})


def test_the_key_chooses_and_refuses_what_it_cannot_guard(tmp_path):
    assert join_of(FederationConfig()) is average
    assert join_of(FederationConfig(robust="median")) is median
    assert join_of(FederationConfig(robust="trimmed-mean")) is trimmed_mean
    for more, reason in [
        ({"federation_masking": "on"}, "the server sees their sum alone"),
        ({"federation_classifier_rows": "by-class"}, "as many as samples"),
        ({"federation_quorum": 2}, "needs 3 answers, and 2 would do"),
        ({"sleep_classifier": "discriminant"}, "in which every hospital's part counts"),
        ({"federation_familiarity": "shared"}, "in which every hospital's part counts"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            tiny(tmp_path, federation_hospitals=3, federation_robust="median", **more)


def step_of(told, sent):
    """How far an update moved the trained weights, in a row."""
    trained = [name for name, tensor in sent.items() if tensor.is_floating_point() and "running" not in name]
    return torch.cat([(told[name] - sent[name]).flatten().double() for name in trained])


def test_a_run_joins_so_and_a_liar_within_all_bounds_stays_in_and_moves_little(tmp_path):
    keys = {"method": "finetune", "stream_task_count": 1, "sleep_rounds": 1, "federation_hospitals": 3}
    config = tiny(tmp_path, federation_robust="median", **keys)
    exchange, asked, told = local_exchange(local_hospitals(config)), [], []

    def lying(order):
        *others, last = exchange(order)
        asked.append(order)
        if order.phase == "train":
            sent = order.weights
            lie = {
                n: sent[n] + 5 * (t - sent[n]) if "running" not in n and "num" not in n else t
                for n, t in last.weights.items()
            }
            told.extend([*others, replace(last, weights=lie)])
            return told
        return [*others, last]

    Coordinator(config, lying).run()
    assert all(not step.missing for step in RunStore(tmp_path).steps("tiny"))
    sent, after = asked[0].weights, asked[1].weights
    assert all(torch.equal(after[name], tensor) for name, tensor in median(told, sent).items())
    robust, mean = (step_of(one, sent).norm() for one in (after, average(told, sent)))
    assert robust < mean / 1.5
