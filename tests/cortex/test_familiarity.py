import numpy as np
import pytest
import torch
from pytorch_ood.detector import Mahalanobis
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import roc_auc_score

from braincl_med.cortex.familiarity import Familiarity
from braincl_med.cortex.gaussians import moments
from braincl_med.evaluation.rejection import auroc, histogram


def samples(seed: int, each: int = 60, features: int = 8, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Features of `classes` clusters with one covariance that is not round."""
    rng = np.random.default_rng(seed)
    shape = np.random.default_rng(0).normal(size=(features, features))
    centres = 5 * np.random.default_rng(1).normal(size=(classes, features))
    labels = np.repeat(np.arange(classes), each)
    return centres[labels] + rng.normal(size=(len(labels), features)) @ shape, labels


def fitted(features: np.ndarray, labels: np.ndarray, **shrinkage: float) -> Familiarity:
    told = moments(torch.from_numpy(features), torch.from_numpy(labels), int(labels.max()) + 1)
    return Familiarity.of(told, **shrinkage)


def test_without_shrinkage_it_is_the_mahalanobis_distance_of_scipy_and_pytorch_ood() -> None:
    features, labels = samples(1)
    found = fitted(features, labels, shrinkage=0).scores(samples(2)[0])
    centred = np.concatenate([features[labels == c] - features[labels == c].mean(0) for c in range(3)])
    precision = EmpiricalCovariance(assume_centered=True).fit(centred).precision_
    means = [features[labels == c].mean(0) for c in range(3)]
    exact = [min(mahalanobis(x, mean, precision) for mean in means) for x in samples(2)[0]]
    np.testing.assert_allclose(found, -np.array(exact), rtol=1e-6)
    theirs = Mahalanobis(torch.nn.Identity())
    theirs.fit_features(torch.tensor(features, dtype=torch.float32), torch.tensor(labels))
    # Theirs is half the squared distance, by the sum of outer products instead of their mean.
    halves = theirs.predict_features(torch.tensor(samples(2)[0], dtype=torch.float32)).numpy()
    np.testing.assert_allclose(found, -np.sqrt(2 * len(features) * halves), rtol=1e-3)


def test_far_points_are_less_familiar_in_proportion_to_their_distance() -> None:
    features, labels = samples(1)
    familiarity = fitted(features, labels)
    direction = np.random.default_rng(3).normal(size=8)
    near, far = familiarity.scores(np.stack([direction * 1e3, direction * 1e4]))
    assert far / near == pytest.approx(10, rel=0.05)
    assert familiarity.scores(np.stack([features[labels == c].mean(0) for c in range(3)])) == pytest.approx(
        0, abs=1e-6
    )


def test_fewer_samples_than_features_still_tell_known_from_unknown() -> None:
    features, labels = samples(1, each=5, features=64)
    known, unknown = samples(2, features=64)[0], samples(2, features=64)[0] + 20
    familiarity = fitted(features, labels)
    exact = roc_auc_score(np.repeat([1, 0], 180), familiarity.scores(np.concatenate([known, unknown])))
    assert exact > 0.95
    binned = [histogram("familiarity", familiarity.scores(points)) for points in (known, unknown)]
    assert auroc(*binned) == pytest.approx(exact, abs=0.005)


def test_one_sample() -> None:
    features = np.ones((1, 4))
    scores = fitted(features, np.zeros(1, np.int64)).scores(np.stack([features[0], features[0] + 1]))
    assert scores[0] == 0
    assert scores[1] < -1e4
    assert fitted(features, np.zeros(1, np.int64)).scores(np.zeros((0, 4))).shape == (0,)


@pytest.mark.parametrize("size", [0.0, 1.0, 1e3])
def test_samples_that_hardly_differ_are_no_error(size: float) -> None:
    features = size * (1 + 1e-9 * np.random.default_rng(0).normal(size=(40, 64)))
    scores = fitted(features, np.repeat([0, 1], 20)).scores(features)
    assert np.isfinite(scores).all()
