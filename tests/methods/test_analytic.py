"""The analytic method: exactly the ridge regression of one hospital that has all scans, and nothing kept but sums."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sklearn.linear_model import Ridge

from braincl_med.cortex.cortex import Cortex, extract_features
from braincl_med.cortex.gaussians import moments
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, load_network, load_weights
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.federation.solved import solver_of
from braincl_med.foundation.errors import ConfigError
from braincl_med.inference.opening import of_experiment
from braincl_med.messages.report import Report
from braincl_med.methods.phase import TASK_MOMENTS
from braincl_med.phases.regression import regression
from braincl_med.records.store import RunStore
from braincl_med.settings.loading import load_experiment
from braincl_med.streams.tasks import Scans
from tests.federation.experiments import drawn_start, tiny

RIDGE = 0.05
ANALYTIC = load_experiment("{}", {"method": "analytic", "analytic-ridge": RIDGE})


@pytest.fixture
def start(tmp_path):
    return drawn_start(tmp_path / "start.safetensors")


def analytic(state, start, **overrides):
    return tiny(state, method="analytic", cortex_weights=start, stream_task_count=2, **overrides)


def learned(config):
    folder = folder_of(config.state_folder, config.name)
    return load_weights(folder, load_checkpoint(folder))


def ridge_regression(features, labels, classes, ridge):
    """Rows and offsets of scikit-learn's regression on one-hot classes, scaled to rows of length 1."""
    penalty = ridge * len(features) * float(features.var(0, correction=0).mean())
    oracle = Ridge(alpha=penalty).fit(features.numpy(), np.eye(classes)[labels])
    length = np.sqrt(np.square(oracle.coef_).sum() / len(np.unique(labels)))
    return oracle.coef_ / length, oracle.intercept_ / length


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.permutations(range(3)))
def test_whatever_the_shares_and_the_order_it_is_the_ridge_regression_of_all_samples(seed, hospitals, order):
    random = np.random.default_rng(seed)
    features = torch.from_numpy(random.normal(2, 3, (40, 5)))
    task = torch.from_numpy(random.integers(0, 3, 40))
    # A hospital may have nothing of a task, and nobody one of its two classes.
    holder = torch.from_numpy(random.integers(0, hospitals, 40))
    labels = 2 * task + torch.from_numpy(random.integers(0, 2, 40))
    place = {one: number for number, one in enumerate(order)}
    labels = torch.tensor([2 * place[int(label) // 2] + int(label) % 2 for label in labels])
    weights: dict[str, torch.Tensor] = {}
    for number in range(3):
        classes = 2 * (number + 1)
        reports = []
        for site in range(hospitals):
            mine = (labels // 2 == number) & (holder == site)
            told = moments(features[mine], labels[mine], classes) if mine.any() else {}
            reports.append(Report(f"site-{site}", int(mine.sum()), weights=told))
        if not any(report.examples for report in reports):
            return
        rows = {
            "classifier.weight": torch.zeros(classes, 5).double(),
            "classifier.bias": torch.zeros(classes).double(),
        }
        sums = {name: tensor for name, tensor in weights.items() if name.startswith("statistics.")}
        weights = solver_of(TASK_MOMENTS)(ANALYTIC, reports, rows, sums)
    rows, offsets = ridge_regression(features, labels, 6, RIDGE)
    np.testing.assert_allclose(weights["classifier.weight"], rows, rtol=0, atol=1e-8)
    np.testing.assert_allclose(weights["classifier.bias"], offsets, rtol=0, atol=1e-8)


@pytest.mark.parametrize("share", ["iid", "by-class"])
def test_hospitals_learn_what_one_with_all_scans_learns_and_keep_nothing(tmp_path, start, share):
    together = analytic(tmp_path / "together", start, federation_hospitals=2, stream_share=share)
    alone = analytic(tmp_path / "alone", start, federation_hospitals=1)
    run_locally(together)
    run_locally(alone)
    ours, theirs = learned(together), learned(alone)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-6)
    for name, tensor in load_file(start).items():
        assert torch.equal(ours[name], tensor)
    counted = [RunStore(config.state_folder).tally("tiny").confusion.tolist() for config in (together, alone)]
    assert counted[0] == counted[1]
    assert not list(together.state_folder.glob("site-*/tiny/**/*.cue"))
    assert not list(together.state_folder.glob("site-*/tiny/kept/*"))


def test_the_classifier_is_the_regression_of_the_scans_features_on_the_backbone_it_began_from(tmp_path, start):
    config = analytic(tmp_path, start, federation_hospitals=1, cortex_projection=24, stream_examine="last")
    run_locally(config)
    folder = folder_of(tmp_path, "tiny")
    checkpoint = load_checkpoint(folder)
    network = load_network(folder, checkpoint)
    assert not [name for name in network if name.startswith(("statistics.", "moments."))]
    scans = Scans.join(local_hospitals(config)[0].raw(checkpoint.registry, task) for task in range(2))
    cortex = Cortex.of(network, config.cortex)
    features = extract_features(cortex, scans.images).double()
    assert features.shape[1] == 24
    assert bool((features >= 0).all())
    rows, _ = ridge_regression(features, scans.labels, len(checkpoint.registry.classes), config.analytic.ridge)
    torch.testing.assert_close(network["classifier.weight"], torch.from_numpy(rows).float())
    assert of_experiment(tmp_path, "tiny").operating is not None
    assert RunStore(tmp_path).examinations("tiny").keys() == {1}


@pytest.mark.parametrize("familiarity", ["own", "shared"])
def test_sums_go_on_after_an_interruption_at_any_step(tmp_path, start, familiarity):
    def config(name, **more):
        return analytic(tmp_path / name, start, federation_familiarity=familiarity, **more)

    whole = config("whole")
    run_locally(whole)
    broken = config("broken", resume=True)
    exchange = local_exchange(local_hospitals(broken))
    asked = []

    def killed_at_every_second_order(order):
        asked.append(order)
        if len(asked) % 2 == 0:
            raise KeyboardInterrupt
        return exchange(order)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            Coordinator(broken, killed_at_every_second_order).run()
    Coordinator(broken, killed_at_every_second_order).run()
    first, second = learned(whole), learned(broken)
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    point = load_checkpoint(folder_of(tmp_path / "whole", "tiny")).operating
    assert point == load_checkpoint(folder_of(tmp_path / "broken", "tiny")).operating
    assert point.score == ("familiarity" if familiarity == "shared" else "max-softmax")


def test_a_backbone_that_has_learned_nothing_and_a_projection_before_training_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"method analytic never trains its backbone.*cortex-weights"):
        run_locally(tiny(tmp_path, method="analytic"))
    with pytest.raises(ConfigError, match=r"cortex-projection.*set method to analytic"):
        tiny(tmp_path, cortex_projection=32)
    with pytest.raises(ConfigError, match=r"federation-robust 'median'.*method analytic"):
        tiny(tmp_path, method="analytic", federation_robust="median", federation_hospitals=3)


def test_classes_that_nothing_tells_apart_get_their_shares_and_no_rounding_blown_up():
    features = torch.tensor([[0.1, 0.7, 1 / 3]]).double().expand(7, -1)
    rows = {"classifier.weight": torch.zeros(3, 3), "classifier.bias": torch.zeros(3)}
    for labels, shares in (([0] * 7, [1, 0, 0]), ([0, 0, 0, 1, 1, 1, 1], [3 / 7, 4 / 7, 0])):
        found = regression(moments(features, torch.tensor(labels), 3), rows, RIDGE)
        torch.testing.assert_close(found["classifier.bias"], torch.tensor(shares).float())
        assert float(found["classifier.weight"].abs().max()) < 1e-3
