"""The release: what one scan or patient adds is bounded, and what follows from it is a classifier."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from braincl_med.cortex.gaussians import impossible_moments, moments
from braincl_med.cortex.reduction import Reduction, fit_reduction
from braincl_med.dp.counts import noisy_counts, settled, shares_of
from braincl_med.dp.statistics import (
    CLASS_SUMS,
    COUNTS,
    PRODUCTS,
    SENSITIVITY,
    accumulated,
    moments_of,
    released,
    statistics,
)
from braincl_med.messages.report import Report


def scans(seed, count, width=5, classes=4):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    features = torch.randn(count, width, generator=generator) + torch.eye(classes, width)[labels]
    return features / features.norm(dim=1, keepdim=True).clamp_min(1), labels


def length(told):
    """Of statistics as the vector that noise is added to: the upper triangle, off the diagonal times √2."""
    return float(sum((tensor**2).sum() for tensor in told.values()) ** 0.5)


@given(st.integers(0, 1000), st.integers(1, 6))
def test_a_scan_or_a_patient_of_many_scans_adds_no_more_than_the_sensitivity(seed, of_one):
    features, labels = scans(seed, 12)
    groups = torch.arange(12) + 1
    groups[:of_one] = 0
    whole = statistics(features, labels, 4, groups)
    without = statistics(features[of_one:], labels[of_one:], 4, groups[of_one:])
    assert length({name: whole[name] - without[name] for name in whole}) <= SENSITIVITY * (1 + 1e-6)
    alone = statistics(features[:1] * 0 + torch.eye(5)[:1], labels[:1], 4)
    assert length(alone) == pytest.approx(SENSITIVITY), "it is reached"


@pytest.mark.parametrize("value", [2.0, 1e30, float("inf"), float("nan")])
def test_no_network_makes_one_scan_add_more_or_have_the_release_refused(value):
    """Were it refused, that would tell without noise that a scan is there under which the network overflows."""
    others = torch.eye(3) / 2
    features = torch.cat([others, torch.tensor([[value, 0.0, 0.1]])])
    whole = statistics(features, torch.zeros(4), 2)
    without = statistics(others, torch.zeros(3), 2)
    assert length({name: whole[name] - without[name] for name in whole}) <= SENSITIVITY * (1 + 1e-9)
    told = released(whole, range(2), 1.0, np.random.default_rng(0))
    assert all(bool(tensor.isfinite().all()) for tensor in told.values())


def test_noise_has_the_deviation_that_the_multiplier_says_and_only_where_classes_are_told():
    exact = statistics(*scans(0, 30), 4)
    drawn = [released(exact, range(1, 3), 2.0, np.random.default_rng(seed)) for seed in range(400)]
    counts = torch.stack([told[COUNTS] - exact[COUNTS] for told in drawn])
    assert not counts[:, [0, 3]].any()
    assert float(counts[:, 1:3].std()) == pytest.approx(2 * SENSITIVITY, rel=0.1)
    products = torch.stack([told[PRODUCTS] - exact[PRODUCTS] for told in drawn])
    assert torch.equal(products, products.transpose(1, 2))
    assert float(products[:, 0, 1].std()) == pytest.approx(2 * SENSITIVITY / 2**0.5, rel=0.1)
    assert float(products[:, 0, 0].std()) == pytest.approx(2 * SENSITIVITY, rel=0.1)


def test_without_noise_the_moments_are_those_of_all_samples_over_tasks_and_hospitals():
    features, labels = scans(3, 200)
    sums = {}
    for classes in (range(2), range(2, 4)):
        reports, parts = [], []
        for hospital in range(2):
            mine = (labels >= classes.start) & (labels < classes.stop) & (torch.arange(200) % 2 == hospital)
            told = statistics(features[mine], labels[mine], classes.stop)
            reports.append(Report(f"site-{hospital}", int(mine.sum())))
            parts.append(told)
        total = sum(r.examples for r in reports)
        mean = {name: sum(part[name] for part in parts) / total for name in parts[0]}
        sums, found = accumulated(mean, total, len(reports), sums, 0.0)
    expected = moments(features, labels, 4)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-9)


@given(st.integers(0, 10_000), st.floats(0.1, 50))
def test_whatever_the_noise_the_moments_are_those_of_some_samples(seed, multiplier):
    noisy = released(statistics(*scans(seed, 40), 4), range(4), multiplier, np.random.default_rng(seed))
    if bool((noisy[COUNTS] >= 1).any()):
        assert impossible_moments(moments_of(noisy, multiplier * SENSITIVITY)) is None


def test_a_patient_with_scans_of_two_classes_is_shared_by_them():
    features = torch.eye(3)[:2]
    told = statistics(features, torch.tensor([0, 1]), 2, torch.tensor([7, 7]))
    assert told[COUNTS].tolist() == [0.5, 0.5]
    assert told[CLASS_SUMS].sum().item() == pytest.approx(1)


def test_a_patient_of_many_test_scans_counts_as_one():
    shares = shares_of(np.array([3, 3, 5, 3]), 4)
    assert shares.tolist() == pytest.approx([1 / 3, 1 / 3, 1, 1 / 3])
    assert shares_of(None, 2).tolist() == [1, 1]


def test_a_reduction_bounds_features_and_keeps_what_tells_public_classes_apart():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    features = torch.randn(300, 20, generator=generator)
    features[:, 0] *= 50  # loud, and the same in all classes
    features[:, 1] += 3 * labels
    centre, basis = fit_reduction(features, labels, 2)
    reduction = Reduction(20, 2)
    reduction.load_state_dict({"centre": centre, "basis": basis})
    reduced = reduction(features)
    assert float(reduced.norm(dim=1).max()) <= 1 + 1e-6
    assert 0.4 < float((reduced.norm(dim=1) < 1 - 1e-4).float().mean()) < 0.6
    means = torch.stack([reduced[labels == c].mean(0) for c in range(3)])
    assert float((means[2] - means[0]).norm()) > 0.8


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_settled_counts_are_counts_with_the_sums_of_the_noisy_ones(seed, classes):
    generator = np.random.default_rng(seed)
    noisy = noisy_counts(generator.integers(0, 30, (classes, classes)).astype(float), 5.0, generator)
    counts = settled(noisy)
    assert (counts >= 0).all()
    assert counts.sum(1).tolist() == np.maximum(noisy.sum(1), 0).tolist()


def test_counts_without_noise_stay_and_noise_alone_is_mostly_settled_away():
    exact = np.diag([40.0] * 12)
    assert (settled(noisy_counts(exact, 0.0, np.random.default_rng(0))) == exact).all()
    right = [
        np.trace(counts) / counts.sum()
        for counts in (settled(noisy_counts(exact, 3.0, np.random.default_rng(seed))) for seed in range(20))
    ]
    cut = [np.maximum(noisy_counts(exact, 3.0, np.random.default_rng(seed)), 0) for seed in range(20)]
    assert np.mean(right) > np.mean([np.trace(c) / c.sum() for c in cut]) + 0.05
