import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_ood.detector import EnergyBased, MaxSoftmax
from pytorch_ood.metrics import functional as ood
from sklearn.metrics import roc_auc_score

from braincl_med.evaluation.rejection import (
    EDGES,
    answering,
    auroc,
    fpr_at_95,
    histogram,
    scores_of,
    threshold_at,
)


def binned(kind: str, counts: np.ndarray) -> np.ndarray:
    """One value a scan: the lower edge of its bin."""
    return np.repeat(EDGES[kind][:-1], counts)


def sample(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Histograms of known and unknown scans that overlap."""
    rng = np.random.default_rng(seed)
    low, width = EDGES[kind][0], EDGES[kind][-1] - EDGES[kind][0]
    known = low + width * rng.beta(5, 2, rng.integers(1, 300))
    unknown = low + width * rng.beta(3, 3, rng.integers(1, 300))
    return histogram(kind, known), histogram(kind, unknown)


@given(st.sampled_from(sorted(EDGES)), st.integers(0, 100_000))
def test_figures_agree_with_scikit_learn_and_pytorch_ood_on_binned_scores(kind: str, seed: int) -> None:
    known, unknown = sample(kind, seed)
    scores = np.concatenate([binned(kind, known), binned(kind, unknown)])
    is_known = np.repeat([True, False], [known.sum(), unknown.sum()])
    assert auroc(known, unknown) == pytest.approx(roc_auc_score(is_known, scores))
    # pytorch-ood's positives are what it rejects; ours are the known scans that are accepted.
    positives = torch.tensor(np.where(is_known, -1, 1))
    assert fpr_at_95(known, unknown) == pytest.approx(float(ood.fpr_at_tpr(torch.tensor(scores), positives)))
    assert auroc(known, unknown) == pytest.approx(float(ood.auroc(torch.tensor(scores), positives)))


@pytest.mark.parametrize("margin", [3, 6, 10, 15])
@pytest.mark.parametrize("kind", ["energy", "max-softmax"])
def test_bins_are_fine_enough(kind: str, margin: int) -> None:
    """AUROC of the histograms stays close to that of the scores themselves, however sure the network."""
    rng = np.random.default_rng(0)
    known = rng.normal(0, 1.2, (4000, 8))
    known[np.arange(4000), rng.integers(0, 8, 4000)] += margin
    unknown = rng.normal(0, margin / 3, (4000, 8))
    values = [scores_of(logits)[kind] for logits in (known, unknown)]
    exact = roc_auc_score(np.repeat([1, 0], 4000), np.concatenate(values))
    assert auroc(*(histogram(kind, v) for v in values)) == pytest.approx(exact, abs=0.002)


def test_bins_of_familiarity_are_fine_enough() -> None:
    rng = np.random.default_rng(0)
    known, unknown = -rng.normal(22, 4, 4000).clip(1), -rng.normal(30, 6, 4000).clip(1)
    exact = roc_auc_score(np.repeat([1, 0], 4000), np.concatenate([known, unknown]))
    assert auroc(histogram("familiarity", known), histogram("familiarity", unknown)) == pytest.approx(exact, abs=2e-3)


def test_scores_agree_with_pytorch_ood() -> None:
    logits = np.random.default_rng(1).normal(0, 6, (200, 9))
    found = scores_of(logits)
    theirs = torch.tensor(logits)
    np.testing.assert_allclose(found["max-softmax"], -MaxSoftmax.score(theirs).numpy(), atol=1e-12)
    np.testing.assert_allclose(found["energy"], -EnergyBased.score(theirs).numpy(), atol=1e-9)


def test_scores_of_large_logits_and_of_none() -> None:
    found = scores_of(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32))
    assert found["max-softmax"].tolist() == [1.0, 0.5]
    np.testing.assert_allclose(found["energy"], [1e4, -1e4 + np.log(2)])
    assert [len(v) for v in scores_of(np.zeros((0, 5), np.float32)).values()] == [0, 0]


def test_histograms_keep_every_scan() -> None:
    counts = histogram("energy", np.array([-99.0, -10.0, 0.0, 40.0, 99.0]))
    assert counts.sum() == 5
    assert (counts[0], counts[-1]) == (2, 2)
    assert histogram("max-softmax", np.array([1.0]))[-1] == 1


def test_figures_of_extremes() -> None:
    low, high, none = np.array([4, 0, 0]), np.array([0, 0, 4]), np.zeros(3, int)
    assert (auroc(high, low), fpr_at_95(high, low)) == (1.0, 0.0)
    assert (auroc(low, high), fpr_at_95(low, high)) == (0.0, 1.0)
    assert (auroc(low, low), fpr_at_95(low, low)) == (0.5, 1.0)
    for pair in ((none, high), (high, none)):
        assert np.isnan([auroc(*pair), fpr_at_95(*pair)]).all()


def test_exactly_95_per_cent_is_enough() -> None:
    known, unknown = np.array([1, 19]), np.array([3, 1])
    assert threshold_at(known) == 1
    assert fpr_at_95(known, unknown) == 0.25
    assert threshold_at(np.array([2, 18])) == 0
    with pytest.raises(ValueError, match="at least one known scan"):
        threshold_at(np.zeros(2, int))


def test_answering_by_hand() -> None:
    groups = {
        "known-correct": np.array([1, 2, 5]),
        "known-wrong": np.array([1, 1, 0]),
        "unknown-near": np.array([2, 1, 1]),
    }
    every, some, none = (answering(groups, threshold) for threshold in (0, 1, 3))
    assert (every.answered, every.accuracy, every.near_rejected) == (1.0, 0.8, 0.0)
    assert (some.answered, some.accuracy, some.near_rejected) == (0.8, 7 / 8, 0.5)
    assert (none.answered, none.near_rejected) == (0.0, 1.0)
    assert np.isnan([none.accuracy, every.far_rejected]).all()
    assert np.isnan(answering({}, 0).answered)
