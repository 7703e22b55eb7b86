import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from braincl_med.memory.guide import train_guide
from braincl_med.memory.module import complete, fit
from braincl_med.memory.training import as_tensor
from braincl_med.privacy.attacks.membership import Membership, auc, found_at, halves, lira
from braincl_med.privacy.attacks.shadows import margins, memory_shadows, nearest_recall, network_shadows, rebuilt
from braincl_med.settings.memory import LinearMemory
from tests.privacy.attacks.blobs import blobs

MEMORY = LinearMemory(step=0.1, guidance=0)


@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
@settings(max_examples=40)
def test_the_curves_figures_are_scikit_learns(seed, ties):
    rng = np.random.default_rng(seed)
    scores, members = rng.normal(size=150), rng.random(150) < 0.4
    members[:2] = True, False
    scores += members
    scores = scores.round(ties)
    assert auc(scores, members) == pytest.approx(roc_auc_score(members, scores))
    away, found, _ = roc_curve(members, scores, drop_intermediate=False)
    for rate in (0.0, 0.01, 0.1, 1.0):
        assert found_at(scores, members, rate) / members.sum() == pytest.approx(found[away <= rate].max())


def test_the_ratio_is_that_of_two_gaussians():
    rng = np.random.default_rng(0)
    inside = halves(400, 8, 1)
    assert (inside.sum(0) == 4).all()
    hard = rng.normal(0, 5, 400)  # of each scan, and nothing of membership
    shadows = hard + 2.0 * inside + rng.normal(0, 1, inside.shape)
    members = np.arange(400) < 200
    target = hard + 2.0 * members + rng.normal(0, 1, 400)
    assert roc_auc_score(members, target) < 0.7
    scores = lira(target, shadows, inside)
    assert roc_auc_score(members, scores) > 0.85
    assert roc_auc_score(members, lira(target, shadows, inside, online=False)) > 0.85
    within, out = (np.array([shadows[m[:, i], i].mean() for i in range(400)]) for m in (inside, ~inside))
    spreads = [np.sqrt(((shadows - mean)[m] ** 2).sum() / (m.sum() - 400)) for mean, m in
               ((within, inside), (out, ~inside))]  # fmt: skip
    from scipy.stats import norm

    expected = norm.logpdf(target, within, spreads[0]) - norm.logpdf(target, out, spreads[1])
    np.testing.assert_allclose(scores, expected)
    with pytest.raises(ValueError, match="inside all shadows, or inside none"):
        lira(target, shadows[:1], inside[:1])


def test_nothing_is_told_where_nothing_differs():
    rng = np.random.default_rng(0)
    found = Membership(rng.normal(size=600), np.arange(600) % 2 == 0, np.arange(600) % 3).as_json()
    assert found["interval"][0] < 0.5 < found["interval"][1]
    assert (found["members"], found["strangers"]) == (300, 300)
    assert [c["members"] for c in found["classes"]] == [100] * 3
    assert found["found"][0]["found"] < 0.05


def attacked(members, strangers, target_of):
    """Online LiRA on a memory that holds `members`, with shadows."""
    (a, la), (b, lb) = members, strangers
    images, labels = np.concatenate([a, b]), np.concatenate([la, lb])
    networks, vaults, inside = memory_shadows(images, labels, MEMORY, 3, time.monotonic() + 60, most=6)
    assert len(networks) == 6
    module = fit(target_of, MEMORY, 9)
    inside_target = np.arange(len(images)) < len(a)
    recalls = complete(module.completion, module.encode(target_of))
    for figure, shadows in ((rebuilt(module.completion, images), networks),
                            (nearest_recall(recalls, images), vaults)):  # fmt: skip
        yield Membership(lira(figure, shadows, inside), inside_target, labels).as_json()


def test_a_memorys_scans_are_told_from_others_and_scans_of_neither_side_are_not():
    members, strangers = blobs(60, 1), blobs(60, 2)
    network, vault = attacked(members, strangers, members[0])
    assert vault["interval"][0] > 0.9
    assert network["interval"][0] > 0.6
    assert vault["found"][0]["found"] > 0.5
    for found in attacked(members, strangers, blobs(60, 4)[0]):
        assert found["interval"][0] < 0.5 < found["interval"][1]


def test_an_overfitted_classifier_tells_its_scans_and_one_of_other_scans_does_not():
    images, labels = blobs(80, 1)
    labels = np.random.default_rng(0).integers(0, 2, 80)  # nothing to learn but the scans themselves
    found, inside = network_shadows(images, labels, 0, time.monotonic() + 60, most=5, steps=100)
    members = Membership(lira(found[0], found[1:], inside[1:], online=False), inside[0], labels).as_json()
    assert members["auc"] > 0.65
    assert members["interval"][0] > 0.55
    other = train_guide(*blobs(80, 2), 3, 60)
    never = lira(margins(other(as_tensor(images, 3)).detach().numpy(), labels), found, inside, online=False)
    found = Membership(never, inside[0], labels).as_json()
    assert found["interval"][0] < 0.5 < found["interval"][1]


def test_margins_are_log_odds_even_of_sure_answers():
    logits = np.array([[0.0, 1.0, 3.0], [60.0, 0.0, 0.0]], np.float32)
    odds = np.exp(1) / (1 + np.exp(3))
    np.testing.assert_allclose(margins(logits, np.array([1, 0])), [np.log(odds), 60 - np.log(2)], rtol=1e-6)


def test_shadows_end_with_their_time():
    images, labels = blobs(20, size=8)
    networks, vaults, inside = memory_shadows(images, labels, MEMORY, 0, until=0.0, most=16)
    assert len(networks) == len(vaults) == len(inside) == 2
