import numpy as np
import pytest
import torch

from braincl_med.cortex.cortex import Cortex, extract_features
from braincl_med.methods.exemplars import exemplar_count, exemplars, packed, unpacked, with_exemplars
from braincl_med.settings.config import CortexConfig
from braincl_med.streams.tasks import Scans
from tests.methods.one_hospital import hospital_with, noise, order_for

SMALL = CortexConfig(network="small")
LABELS = [0] * 10 + [1] * 10 + [2] * 4


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return Cortex(3, SMALL).weights()


def remembered(folder, scans, weights, task=0, **overrides):
    """The hospital once it has remembered `scans`, and the exemplars it kept."""
    hospital = hospital_with(folder, {task: scans}, method="replay", **overrides)
    report = hospital.answer(order_for("remember", task, weights))
    assert not report.failure
    kept = exemplars(hospital, task)
    assert report.examples == len(kept) == exemplar_count(hospital.kept)
    return hospital, kept


def multiset(scans):
    return sorted((image.tobytes(), label) for image, label in zip(scans.images, scans.labels.tolist(), strict=True))


@pytest.mark.parametrize(("grey", "channels"), [(True, 1), (False, 3)])
@pytest.mark.parametrize("bytes_per_scan", [150, 412.5, 1600])
def test_a_byte_budget_is_respected_and_used_up_to_less_than_one_scan(
    tmp_path, weights, grey, channels, bytes_per_scan
):
    scans = noise(LABELS, grey=grey)
    hospital, kept = remembered(tmp_path, scans, weights, exemplars_bytes_per_scan=bytes_per_scan)
    stored = hospital.kept.load("exemplars", 0)
    spent = stored["grey"].nbytes + stored["colour"].nbytes
    assert spent == len(kept) * 28 * 28 * channels
    assert spent <= bytes_per_scan * len(LABELS)
    assert len(kept) == len(LABELS) or spent + 28 * 28 * channels > bytes_per_scan * len(LABELS)
    # The file has labels and a header beside the pixels.
    assert spent < hospital.kept.sizes()["exemplars"] < spent + 600


def test_a_budget_is_shared_evenly_and_small_classes_leave_the_rest_to_the_others(tmp_path, weights):
    budget = 16 * 28 * 28 * 3 / len(LABELS)
    _, kept = remembered(tmp_path, noise(LABELS), weights, exemplars_bytes_per_scan=budget)
    assert np.bincount(kept.labels).tolist() == [6, 6, 4]


def test_without_a_budget_each_class_has_as_many_as_asked_for(tmp_path, weights):
    _, kept = remembered(tmp_path, noise(LABELS), weights, exemplars_per_class=5)
    assert np.bincount(kept.labels).tolist() == [5, 5, 4]


@pytest.mark.parametrize("rule", ["herding", "nearest"])
def test_exemplars_are_those_that_the_rule_chooses_by_features_of_the_network(tmp_path, weights, rule):
    scans = noise(LABELS)
    _, kept = remembered(tmp_path, scans, weights, exemplars_per_class=3, exemplars_rule=rule)
    features = extract_features(Cortex.of(weights, SMALL), scans.images).double()
    expected = []
    for label in range(3):
        mine = features[scans.labels == label]
        if rule == "nearest":
            chosen = (mine - mine.mean(0)).norm(dim=1).argsort()[:3].tolist()
        else:
            units, chosen = torch.nn.functional.normalize(mine), []
            for _ in range(3):
                left = [i for i in range(len(units)) if i not in chosen]
                gaps = [(units.mean(0) - units[[*chosen, i]].mean(0)).norm().item() for i in left]
                chosen.append(left[int(np.argmin(gaps))])
        expected.append(scans.take(np.flatnonzero(scans.labels == label)[chosen]))
    assert multiset(kept) == multiset(Scans.join(expected))


def test_grey_and_colour_scans_come_back_as_they_were():
    scans = Scans.join([noise([1, 2], seed=1, grey=True), noise([2, 300], seed=2), noise([0], seed=3, grey=True)])
    stored = packed(scans)
    assert stored["grey"].shape == (3, 28, 28)
    assert stored["colour"].shape == (2, 28, 28, 3)
    assert multiset(unpacked(stored)) == multiset(scans)


def test_remembering_again_writes_the_same_bytes(tmp_path, weights):
    scans = noise(LABELS)
    hospital, _ = remembered(tmp_path, scans, weights, exemplars_per_class=2, exemplars_rule="random")
    (file,) = hospital.kept.folder.iterdir()
    before = file.read_bytes()
    remembered(tmp_path, scans, weights, exemplars_per_class=2, exemplars_rule="random")
    assert [f.read_bytes() for f in hospital.kept.folder.iterdir()] == [before]


def test_a_task_is_trained_on_its_own_scans_and_the_exemplars_of_earlier_ones(tmp_path, weights):
    first, second = noise(LABELS), noise([3, 4] * 5, seed=1)
    hospital = hospital_with(tmp_path, {0: first, 1: second}, method="replay", exemplars_per_class=2)
    order = order_for("remember", 0, weights)
    assert multiset(with_exemplars(hospital, order.registry, 0)) == multiset(first)
    hospital.answer(order)
    samples = with_exemplars(hospital, order.registry, 1)
    assert np.bincount(samples.labels).tolist() == [2, 2, 2, 5, 5]
    assert multiset(samples) == multiset(Scans.join([second, exemplars(hospital, 0)]))


def test_a_hospital_without_scans_of_a_task_keeps_nothing_and_a_poor_one_no_more_than_it_may(tmp_path, weights):
    hospital, kept = remembered(tmp_path, Scans.none(28), weights)
    assert len(kept) == 0
    assert hospital.kept.sizes() == {}
    _, kept = remembered(tmp_path, noise(LABELS), weights, exemplars_bytes_per_scan=1)
    assert len(kept) == 0
    _, kept = remembered(tmp_path, noise([1]), weights, exemplars_bytes_per_scan=3 * 28 * 28)
    assert kept.labels.tolist() == [1]
