import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

from braincl_med.cortex.cortex import Cortex, predict, scans_to_tensor
from braincl_med.evaluation.rejection import auroc, histogram
from braincl_med.federation.local import local_hospitals, run_locally
from braincl_med.methods.bayesian import BayesianCortex
from braincl_med.methods.mesu import INITIAL_DEVIATION, MESU, Metaplasticity, mutual_information, optimiser, updates
from braincl_med.phases.sleep import calibrate, sleep
from braincl_med.records.store import RunStore
from braincl_med.records.summary import summarise
from braincl_med.records.table import table
from braincl_med.settings.config import CortexConfig, SleepConfig
from tests.federation.experiments import tiny
from tests.methods.one_hospital import hospital_with, noise, order_for
from tests.phases.test_wake import two_tints

THEORY = {"mean_rate": 1.0, "deviation_rate": 0.5, "second_order": False, "step_ratio": 10.0}
SMALL = CortexConfig(network="small")
DEFAULT = Metaplasticity(1000.0, 10.0)


class Regression:
    """Bayesian linear regression with known noise: all expectations and the mean-field posterior in closed form."""

    def __init__(self, prior, horizon):
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(500, 3, generator=draw, dtype=torch.float64) @ torch.tensor(
            [[1.0, 0.4, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 0.5]], dtype=torch.float64
        )
        y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
        y = y + torch.randn(500, generator=draw, dtype=torch.float64)
        self.hessian, self.pull = x.T @ x / 500, x.T @ y / 500
        precision = horizon * self.hessian + torch.eye(3, dtype=torch.float64) / prior**2
        # The Gaussian of independent weights next to a Gaussian has its mean and the diagonal of its precision.
        self.mean = torch.linalg.solve(precision, horizon * self.pull)
        self.deviation = precision.diagonal() ** -0.5

    def gradients(self, mean, deviation):
        return self.hessian @ mean - self.pull, self.hessian.diagonal() * deviation


@pytest.mark.parametrize("form", [THEORY, {"mean_rate": 0.7, "deviation_rate": 2.0, "step_ratio": 0.05}])
def test_an_unchanging_stream_leads_to_the_mean_field_posterior_of_the_horizons_samples(form):
    config = Metaplasticity(horizon=200, prior_deviation=0.5, **form)
    problem = Regression(0.5, 200)
    mean, deviation = torch.zeros(3, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)
    for _ in range(20000):
        step, narrowing = updates(mean, deviation, *problem.gradients(mean, deviation), config)
        mean, deviation = mean + step, deviation + narrowing
    torch.testing.assert_close(mean, problem.mean, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(deviation, problem.deviation, rtol=1e-3, atol=0)
    # The prior matters here, so that the horizon does.
    assert abs(problem.mean - torch.linalg.solve(problem.hessian, problem.pull)).max() > 0.01


def test_gradients_of_drawn_weights_lead_there_too():
    config = Metaplasticity(horizon=100, prior_deviation=0.5, **THEORY)
    problem, draw = Regression(0.5, 100), torch.Generator().manual_seed(3)
    mean, deviation = torch.zeros(3, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)
    means, deviations = [], []
    for step in range(30000):
        noise = torch.randn(3, generator=draw, dtype=torch.float64)
        gradient = problem.hessian @ (mean + deviation * noise) - problem.pull
        mean_step, deviation_step = updates(mean, deviation, gradient, noise * gradient, config)
        mean, deviation = mean + mean_step, deviation + deviation_step
        if step >= 5000:
            means.append(mean)
            deviations.append(deviation)
    assert (torch.stack(means).mean(0) - problem.mean).abs().max() < 0.3 * problem.deviation.min()
    torch.testing.assert_close(torch.stack(deviations).mean(0), problem.deviation, rtol=0.08, atol=0)


def test_a_step_is_bayes_rule_for_one_weakly_informative_sample():
    mean, deviation = torch.tensor([0.3], dtype=torch.float64), torch.tensor([0.2], dtype=torch.float64)
    curvature, target, prior, horizon = 1e-3, 1.5, 0.7, 1e4
    config = Metaplasticity(horizon=horizon, prior_deviation=prior, **THEORY)
    step, narrowing = updates(mean, deviation, curvature * (mean - target), curvature * deviation, config)
    # Exactly: q^(1 - 1/N) · prior^(1/N) · exp(-h/2 (w - target)²), a product of Gaussians.
    held = (1 - 1 / horizon) / deviation**2
    precision = held + 1 / (horizon * prior**2) + curvature
    exact_mean = (held * mean + curvature * target) / precision
    assert step.item() == pytest.approx((exact_mean - mean).item(), rel=1e-3)
    assert narrowing.item() == pytest.approx((precision**-0.5 - deviation).item(), rel=1e-3)


def test_without_samples_weights_relax_to_the_prior_and_with_an_endless_horizon_they_stay():
    mean, deviation = torch.tensor([0.8, -0.8]), torch.tensor([0.05, 0.9])
    nothing = torch.zeros(2)
    short = Metaplasticity(horizon=50, prior_deviation=0.5, **THEORY)
    for _ in range(5000):
        step, widening = updates(mean, deviation, nothing, nothing, short)
        mean, deviation = mean + step, deviation + widening
    torch.testing.assert_close(deviation, torch.full((2,), 0.5), rtol=1e-3, atol=0)
    assert mean.abs().max() < 1e-3
    endless = Metaplasticity(horizon=float("inf"), **THEORY)
    assert not torch.stack(updates(torch.ones(2), torch.full((2,), 0.3), nothing, nothing, endless)).any()


def test_curvature_narrows_a_weight_and_narrow_weights_hardly_move():
    config = Metaplasticity(horizon=float("inf"), **THEORY)
    mean, deviation, slope = torch.zeros(2), torch.tensor([0.01, 0.1]), torch.ones(2)
    step, narrowing = updates(mean, deviation, slope, 4.0 * deviation, config)
    assert (narrowing < 0).all()
    torch.testing.assert_close(step[1] / step[0], torch.tensor(100.0))


@pytest.mark.parametrize("second_order", [False, True])
def test_no_step_is_above_its_share_of_the_deviation(second_order):
    config = Metaplasticity(mean_rate=1e9, deviation_rate=1e9, step_ratio=0.02, second_order=second_order)
    deviation = torch.tensor([0.5, 0.001])
    for step in updates(torch.zeros(2), deviation, torch.tensor([5.0, -5.0]), torch.tensor([5.0, 5.0]), config):
        torch.testing.assert_close(step.abs(), 0.02 * deviation)


def test_mutual_information_is_what_scipy_makes_of_it():
    random = np.random.default_rng(0)
    draws = random.dirichlet(np.full(5, 0.3), (4, 50))
    draws[:, 0] = [0, 0, 1, 0, 0]
    draws[:2, 1], draws[2:, 1] = np.eye(5)[0], np.eye(5)[3]
    wanted = entropy(draws.mean(0), axis=1) - entropy(draws, axis=2).mean(0)
    found = mutual_information(draws)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert found[0] == 0
    assert found[1] == pytest.approx(np.log(2))


def test_the_bins_of_certainty_are_fine_enough():
    random = np.random.default_rng(0)
    for known_scale, unknown_scale in ((1e-6, 1e-5), (1e-3, 2e-3), (0.05, 0.3)):
        known, unknown = (-random.gamma(1.0, s, 4000).clip(0, np.log(4)) for s in (known_scale, unknown_scale))
        exact = roc_auc_score(np.repeat([1, 0], 4000), np.concatenate([known, unknown]))
        assert auroc(histogram("certainty", known), histogram("certainty", unknown)) == pytest.approx(exact, abs=2e-3)


def bayesian(classes=3, deviation=None):
    torch.manual_seed(0)
    cortex = BayesianCortex(classes, SMALL)
    if deviation is not None:
        for _, sigma in cortex.gaussian.values():
            torch.nn.init.constant_(sigma, deviation)
    return cortex


def test_draws_have_the_means_and_deviations_and_evaluation_uses_the_means():
    cortex = bayesian(deviation=0.02)
    draws = torch.stack([cortex.draw("classifier")["weight"] for _ in range(400)])
    torch.testing.assert_close(draws.mean(0), cortex.classifier.weight, rtol=0, atol=0.005)
    assert draws.std(0).mean().item() == pytest.approx(0.02, rel=0.02)
    assert set(cortex.draw()) == {n for n, p in cortex.named_parameters() if n in cortex.gaussian}
    assert not any(".bn" in name for name in cortex.gaussian)

    weights = cortex.weights()
    plain = Cortex.of({n: t for n, t in weights.items() if not n.startswith("deviation.")}, SMALL)
    images = two_tints(count=3).images
    np.testing.assert_array_equal(predict(cortex, images), predict(plain, images))
    again = BayesianCortex.of(weights, SMALL)
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.weights().items())
    logits = [predict(draw, images) for draw in cortex.draws(2)]
    assert not np.allclose(*logits)
    cortex.train()
    scans = scans_to_tensor(images)
    assert not torch.allclose(cortex(scans), cortex(scans))


def test_gradients_reach_means_as_they_are_and_deviations_times_the_noise():
    cortex = bayesian()
    scans, labels = scans_to_tensor(two_tints(count=4).images), torch.tensor([0] * 4 + [1] * 4)
    mean, deviation = cortex.gaussian["classifier.weight"]
    features = cortex.eval().features(scans).detach()
    torch.manual_seed(5)
    drawn = cortex.draw("classifier")
    logits = torch.nn.functional.linear(features, drawn["weight"], drawn["bias"])
    torch.nn.functional.cross_entropy(logits, labels).backward()
    noise = ((drawn["weight"] - mean) / deviation).detach()
    torch.testing.assert_close(deviation.grad, mean.grad * noise, rtol=1e-3, atol=1e-6)
    assert mean.grad.any()


def test_widening_keeps_what_is_known_of_old_rows():
    cortex = bayesian(deviation=0.003)
    old = cortex.weights()
    cortex.widen(5)
    new = cortex.weights()
    row = "deviation.classifier.weight"
    assert torch.equal(new[row][:3], old[row])
    torch.testing.assert_close(new[row][3:], torch.full((2, 64), 64**-0.5))
    assert torch.equal(new["classifier.weight"][:3], old["classifier.weight"])


def test_one_step_moves_normalisation_by_sgd_and_gaussian_weights_by_mesu():
    cortex = bayesian()
    config, settings = DEFAULT, SleepConfig(learning_rate=0.3, momentum=0, weight_decay=0)
    descent = optimiser(cortex, settings, config)
    cortex.train()
    cortex(scans_to_tensor(two_tints(count=4).images)).square().mean().backward()
    before = {name: (p.detach().clone(), p.grad.clone()) for name, p in cortex.named_parameters()}
    descent.step()
    name = "backbone.conv2.weight"
    (mean, slope), (deviation, deviation_slope) = before[name], before[f"deviation.{name}"]
    step, narrowing = updates(mean, deviation, slope, deviation_slope, config)
    torch.testing.assert_close(cortex.get_parameter(name), mean + step)
    torch.testing.assert_close(cortex.deviation.get_parameter(name), deviation + narrowing)
    scale, its_slope = before["backbone.bn1.weight"]
    torch.testing.assert_close(cortex.get_parameter("backbone.bn1.weight"), scale - 0.3 * its_slope)
    assert all(p.grad is None for pair in cortex.gaussian.values() for p in pair)


def test_it_learns_two_tints():
    config, scans = DEFAULT, two_tints()
    cortex = bayesian(classes=2)
    with torch.no_grad():
        for _, deviation in cortex.gaussian.values():
            deviation.mul_(INITIAL_DEVIATION)
    settings = SleepConfig(rounds=1, epochs=3, batch_size=8, learning_rate=0.02)
    sleep(cortex, scans, settings, 0, 1, 0.0, optimiser_of=lambda _, schedule: optimiser(cortex, schedule, config))
    calibrate(cortex, scans, 40)
    assert (predict(cortex, scans.images).argmax(1) == scans.labels).mean() > 0.9


def test_new_weights_begin_with_the_initial_deviation_in_the_first_round_only(tmp_path, monkeypatch):
    monkeypatch.setattr("braincl_med.methods.mesu.DRAWS_TRAINING", 1)
    cautious = {"method": "mesu", "mesu_mean_rate": 1e-30, "mesu_deviation_rate": 1e-30, "sleep_epochs": 2}
    hospital = hospital_with(tmp_path, {0: noise([0, 1, 2, 0]), 1: noise([3, 4, 3, 4])}, **cautious)
    first = MESU.grow({}, SMALL, 3)
    row = "deviation.classifier.weight"

    def trained(task, number, weights):
        report = hospital.answer(order_for("train", task, weights, number=number))
        assert not report.failure
        assert report.weights.keys() == weights.keys()
        return report.weights

    ratio = INITIAL_DEVIATION
    once = trained(0, 0, first)
    torch.testing.assert_close(once[row], ratio * first[row])
    torch.testing.assert_close(trained(0, 1, once)[row], once[row])
    grown = trained(1, 0, MESU.grow(once, SMALL, 5))
    torch.testing.assert_close(grown[row][:3], once[row])
    torch.testing.assert_close(grown[row][3:], ratio * first[row][:2])
    torch.testing.assert_close(grown["deviation.backbone.conv1.weight"], once["deviation.backbone.conv1.weight"])


def test_answers_are_mean_probabilities_and_certainty_falls_as_draws_disagree(tmp_path):
    config = local_hospitals(tiny(tmp_path, method="mesu"))[0].config
    images = two_tints(count=3).images
    scores = []
    for deviation in (1e-6, 0.05):
        cortex = bayesian(deviation=deviation)
        answers = MESU.answer(cortex, images, config)
        np.testing.assert_allclose(np.exp(answers.logits).sum(1), 1, rtol=1e-5)
        scores.append(answers.scores["certainty"])
    np.testing.assert_allclose(scores[0], 0, atol=1e-6)
    assert (scores[1] < -1e-3).all()
    sure = MESU.answer(bayesian(deviation=1e-6), images, config)
    logits = torch.from_numpy(predict(bayesian(deviation=1e-6), images))
    np.testing.assert_allclose(sure.logits, logits.log_softmax(1), atol=1e-3)
    np.testing.assert_allclose(sure.scores["energy"], logits.logsumexp(1), atol=1e-3)


def test_a_whole_experiment_records_certainty_and_the_bytes_of_deviations(tmp_path, monkeypatch):
    monkeypatch.setattr("braincl_med.methods.mesu.DRAWS_TRAINING", 1)
    monkeypatch.setattr("braincl_med.methods.mesu.DRAWS_INFERENCE", 2)
    run_locally(
        tiny(
            tmp_path,
            method="mesu",
            stream_train_per_class=4,
            stream_test_per_class=2,
            sleep_epochs=1,
            sleep_rounds=1,
        )
    )
    store = RunStore(tmp_path)
    assert store.experiment("tiny").status == "finished"
    assert store.scores("tiny", 0)["certainty"].keys() == store.scores("tiny", 0)["energy"].keys()
    sizes = [n for _, _, item, n in store.storage("tiny") if item == "deviations"]
    # A deviation for every weight of a convolution or the classifier, 4 bytes each; 3 classes more with every task.
    convolutions = 3 * 32 * 25 + 32 * 64 * 9
    assert sorted(sizes) == sorted(2 * [4 * (convolutions + (64 + 1) * known) for known in (3, 6, 9)])
    assert "AUROC near, certainty" in table([summarise(store, "tiny")])
