import numpy as np
import pytest
import torch
from torch.nn import functional

import tests.small_backbone  # noqa: F401
from braincl_med.cortex.cortex import Cortex
from braincl_med.phases.objectives import balanced, objective_of, proximal
from braincl_med.phases.sleep import cross_entropy
from braincl_med.settings.config import CortexConfig, SleepConfig

SMALL = CortexConfig(network="small")
LABELS = np.array([0] * 90 + [1] * 9 + [2])


@pytest.fixture(scope="module")
def cortex():
    torch.manual_seed(0)
    return Cortex(4, SMALL).eval()


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(1)
    return torch.rand(6, 3, 28, 28), torch.tensor([0, 0, 0, 1, 1, 2])


def test_a_weighted_loss_gives_every_class_of_an_epoch_the_same_say(cortex, batch):
    logits = cortex(batch[0]).detach()
    each = functional.cross_entropy(logits, batch[1], reduction="none")
    weights = torch.tensor([1 / 90, 1 / 9, 1.0])[batch[1]] * 100 / 3
    assert balanced("loss", LABELS, 4)(cortex, *batch).item() == pytest.approx(
        (each * weights).mean().item(), rel=1e-5
    )
    scan = batch[0][:1]
    weighted, plain = balanced("loss", LABELS, 4), cross_entropy
    with torch.no_grad():
        says = [
            count * float(weighted(cortex, scan, label) / plain(cortex, scan, label))
            for label, count in zip(torch.arange(3)[:, None], (90, 9, 1), strict=True)
        ]
    assert says == pytest.approx([len(LABELS) / 3] * 3, rel=1e-5)


def test_adjusted_logits_have_the_log_of_the_share_added(cortex, batch):
    logits = cortex(batch[0]).detach().double().numpy()
    shifted = logits + np.log(np.array([0.9, 0.09, 0.01, 0.01]))
    truth = batch[1].numpy()
    expected = np.mean(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(6), truth])
    assert balanced("logits", LABELS, 4)(cortex, *batch).item() == pytest.approx(expected, rel=1e-5)


def test_classes_without_a_sample_are_left_out_of_the_softmax_and_stay_as_they_are(cortex, batch):
    logits = cortex(batch[0]).detach()[:, :3]
    learner = Cortex.of(cortex.weights(), SMALL)
    loss = balanced("present", LABELS, 4)(learner.eval(), *batch)
    assert loss.item() == pytest.approx(functional.cross_entropy(logits, batch[1]).item(), rel=1e-5)
    loss.backward()
    rows = learner.classifier.weight.grad.abs().sum(1)
    assert (rows[:3] > 0).all()
    assert rows[3] == 0
    assert balanced("present", np.zeros(9, int), 4) is cross_entropy, "a softmax over one class would teach nothing"


def test_the_proximal_term_is_nothing_at_the_start_and_pulls_back_in_proportion(cortex, batch):
    held = proximal(cross_entropy, cortex, 0.5)
    plain = cross_entropy(cortex, *batch)
    assert held(cortex, *batch).item() == pytest.approx(plain.item(), rel=1e-6)
    moved = Cortex.of(cortex.weights(), SMALL).eval()
    with torch.no_grad():
        moved.classifier.bias += torch.tensor([1.0, -2.0, 0.0, 0.0])
    extra = held(moved, *batch) - cross_entropy(moved, *batch)
    (gradient,) = torch.autograd.grad(extra, [moved.classifier.bias])
    assert extra.item() == pytest.approx(0.25 * 5, rel=1e-4)
    assert np.allclose(gradient, [0.5, -1, 0, 0], atol=1e-5)


def test_the_default_is_plain_cross_entropy(cortex):
    assert objective_of(SleepConfig(), LABELS, cortex) is cross_entropy
