import re

import numpy as np
import pytest
import torch

from braincl_med.federation.aggregate import average, average_rows_by_class, with_momentum
from braincl_med.messages.report import Report
from braincl_med.messages.update import objection

SHARED = {"w": torch.zeros(2, 2), "steps": torch.tensor(3)}


def report(name, examples, value, steps=3):
    return Report(name, examples, weights={"w": torch.full((2, 2), value), "steps": torch.tensor(steps)})


def test_the_mean_is_weighted_by_examples():
    reports = [report("a", 1, 4.0), report("b", 3, 8.0)]
    oracle = np.average([4.0, 8.0], weights=[1, 3])
    assert torch.allclose(average(reports, SHARED)["w"], torch.full((2, 2), oracle))


def test_integer_buffers_stay_integers():
    merged = average([report("a", 1, 0.0, steps=5), report("b", 1, 0.0, steps=9)], SHARED)
    assert merged["steps"].dtype == torch.int64
    assert merged["steps"] == 9


def test_the_order_of_arrival_does_not_matter_to_the_last_bit():
    torch.manual_seed(0)
    reports = [Report(f"site-{i}", i + 1, weights={"w": torch.randn(50, 50)}) for i in range(7)]
    shared = {"w": torch.zeros(50, 50)}
    assert torch.equal(average(reports, shared)["w"], average(reports[::-1], shared)["w"])


def test_tensors_that_nobody_changed_stay():
    merged = average([Report("a", 2, weights={"w": torch.ones(2, 2)})], SHARED)
    assert merged["steps"] == SHARED["steps"]


def test_hospitals_without_examples_do_not_count_and_none_at_all_is_an_error():
    assert average([report("a", 0, 99.0), report("b", 2, 1.0)], SHARED)["w"][0, 0] == 1
    with pytest.raises(ValueError, match="any example"):
        average([report("a", 0, 1.0)], SHARED)


STEPS = {"steps": torch.tensor(3)}


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({}, "empty"),
        ({"w": torch.zeros(2, 2)}, "lacks 'steps'"),
        ({**SHARED, "v": torch.zeros(1)}, "holds 'v', which was not asked for"),
        ({**STEPS, "w": torch.zeros(3, 2)}, r"\(3, 2\), expected .* \(2, 2\)"),
        ({**STEPS, "w": torch.zeros(2, 2, dtype=torch.float64)}, "float64"),
        ({**STEPS, "w": torch.tensor([[0.0, float("nan")], [0, 0]])}, "not finite"),
        ({**STEPS, "w": torch.tensor([[0.0, float("inf")], [0, 0]])}, "not finite"),
    ],
)
def test_updates_that_cannot_be_used_are_named(update, reason):
    assert re.search(reason, objection(update, SHARED))


def test_a_good_update_meets_no_objection():
    assert objection({"w": torch.ones(2, 2), "steps": torch.tensor(4)}, SHARED) is None


def classified(name, value, classes, examples=4):
    weights = {"classifier.weight": torch.full((3, 2), value), "classifier.bias": torch.full((3,), value)}
    return Report(name, examples, figures={"classes": classes}, weights=weights)


def test_a_row_of_the_classifier_is_decided_by_those_who_have_its_class():
    reports = [classified("a", 1.0, [4, 0, 0]), classified("b", 5.0, [1, 3, 0])]
    shared = {"classifier.weight": torch.zeros(3, 2), "classifier.bias": torch.zeros(3)}
    averaged = average(reports, shared)
    merged = average_rows_by_class(reports, averaged)
    expected = [np.average([1, 5], weights=[4, 1]), 5.0, 3.0]
    assert np.allclose(merged["classifier.bias"], expected)
    assert np.allclose(merged["classifier.weight"], np.repeat(expected, 2).reshape(3, 2))


def test_counts_that_do_not_fit_the_classifier_are_not_used():
    reports = [classified("a", 1.0, [4, 0])]
    averaged = average(reports, {"classifier.weight": torch.zeros(3, 2), "classifier.bias": torch.zeros(3)})
    assert average_rows_by_class(reports, averaged) is averaged


def test_server_momentum_is_that_of_torch_on_the_averages_steps():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4))
    optimiser = torch.optim.SGD([weight], lr=1.0, momentum=0.7)
    network, velocity = {"w": weight.detach().clone(), "running_mean": torch.zeros(1), "steps": torch.tensor(1)}, {}
    for round_number in range(4):
        step = torch.randn(4)
        averaged = {
            "w": network["w"] + step,
            "running_mean": torch.tensor([float(round_number)]),
            "steps": torch.tensor(round_number),
        }
        network, velocity = with_momentum(network, averaged, velocity, 0.7)
        weight.grad = -step
        optimiser.step()
        assert torch.allclose(network["w"], weight, atol=1e-6)
        assert network["running_mean"] == round_number
        assert network["steps"] == round_number
    assert set(velocity) == {"w"}
