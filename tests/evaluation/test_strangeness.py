import numpy as np
import pytest
import torch
from pytorch_ood.detector import KNN, RMD, ViM
from sklearn.metrics import roc_auc_score

from braincl_med.evaluation.strangeness import (
    combined,
    neighbours,
    ranks,
    relative_mahalanobis,
    threshold,
    virtual_logit,
)


@pytest.fixture
def double():
    """pytorch-ood computes in torch's default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def features():
    rng = np.random.default_rng(3)
    labels = np.arange(90) % 3
    known = rng.normal(0, 1, (90, 8)) + 3 * np.eye(8)[labels]
    return known, labels, rng.normal(0, 2, (40, 8))


def test_relative_mahalanobis_is_pytorch_oods(features, double):
    known, labels, points = features
    theirs = RMD(None).fit_features(torch.tensor(known), torch.tensor(labels))
    # Theirs are sums over samples where these are means, so their distances are smaller by the number of samples.
    expected = -len(known) * theirs.predict_features(torch.tensor(points)).numpy()
    assert relative_mahalanobis(points, known, labels, shrinkage=0) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("count", [1, 7, 50])
def test_neighbours_are_pytorch_oods(features, count):
    known, labels, points = features
    theirs = KNN(None, k=count).fit_features(torch.tensor(known), torch.tensor(labels))
    expected = -theirs.predict_features(torch.tensor(points)).numpy()
    assert neighbours(points, known, count) == pytest.approx(expected, abs=1e-6)
    assert neighbours(points, known[:3], 10) == pytest.approx(neighbours(points, known[:3], 3))


def test_virtual_logits_are_pytorch_oods(features, monkeypatch):
    # Theirs rounds to single precision, which alone would be seen at 1e-5.
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    known, labels, points = features
    rng = np.random.default_rng(4)
    weight, bias = rng.normal(0, 1, (3, 8)), rng.normal(0, 1, 3)
    theirs = ViM(None, 5, torch.tensor(weight), torch.tensor(bias))
    theirs.fit_features(torch.tensor(known), torch.tensor(labels))
    expected = -theirs.predict_features(torch.tensor(points)).numpy()
    assert virtual_logit(points, known, weight, bias, kept=5) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_virtual_logits_of_fewer_samples_than_dimensions_are_no_rounding():
    rng = np.random.default_rng(6)
    weight, bias = rng.normal(0, 1, (3, 64)), rng.normal(0, 1, 3)
    known, alike, strange = rng.normal(0, 1, (20, 64)), rng.normal(0, 1, (40, 64)), rng.normal(0, 3, (40, 64))
    scores = virtual_logit(np.concatenate([alike, strange]), known, weight, bias)
    assert np.abs(scores).max() < 1000
    assert roc_auc_score([1] * 40 + [0] * 40, scores) > 0.75


def test_the_combination_finds_both_what_one_finds_and_what_the_other_does():
    rng = np.random.default_rng(5)

    def scans(sure, familiar, count=400):
        return rng.normal(sure, 1, count), rng.normal(familiar, 1, count)

    reference, right, mistakes, strangers = scans(0, 0), scans(0, 0), scans(-3, 0), scans(0, -4)
    both = {name: combined(*group, *reference) for name, group in
            {"right": right, "mistakes": mistakes, "strangers": strangers}.items()}  # fmt: skip
    for other in ("mistakes", "strangers"):
        truth = np.repeat([1, 0], 400)
        assert roc_auc_score(truth, np.concatenate([both["right"], both[other]])) > 0.9
    assert roc_auc_score(truth, np.concatenate([right[0], strangers[0]])) < 0.6
    assert roc_auc_score(truth, np.concatenate([right[1], mistakes[1]])) < 0.6


def test_ranks_and_thresholds_are_those_of_the_reference():
    reference = np.array([3.0, 1.0, 2.0, 4.0])
    assert list(ranks(np.array([0.5, 1, 2.5, 9]), reference)) == [0, 0.25, 0.5, 1]
    values = np.arange(100.0)
    assert (values < threshold(values, 0.05)).mean() == 0.05
    assert (np.array([1.0, 2]) < threshold(np.array([1.0, 2]), 0.05)).sum() == 0
