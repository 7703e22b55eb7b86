"""MESU: metaplasticity from synaptic uncertainty (Bonnet et al., Nature Communications 2025).

Every weight is Gaussian, q = N(μ, σ²), under a prior N(0, σ_p²), and should be the posterior of the last N samples of
the stream. Going on by one sample, the evidence of one has to leave; which one is not known, so it is taken to be the
N-th part of all that is held, (q / prior)^(1/N):

    q' ∝ p(sample | w) · q^(1 − 1/N) · prior^(1/N)

The Gaussian q' of least free energy KL(q' ‖ q^(1 − 1/N) prior^(1/N)) + E_q'[C], C the negative log likelihood, has
zero gradient; to first order in the step, with g_μ and g_σ the gradients of E_q[C],

    Δμ = −σ² g_μ − σ² μ / (N σ_p²)
    Δσ = −σ²/2 · g_σ + σ (σ_p² − σ²) / (2 N σ_p²)

As g_σ = σ h, h the expected curvature, σ shrinks where samples have something to say about a weight, and with it the
weight's own steps. Without gradients μ and σ relax to the prior within N samples; with N → ∞ only the first terms are
left and nothing is ever forgotten. On an unchanging stream both rest at 1/σ² = 1/σ_p² + N h and μ = −N σ_p² g_μ: the
mean-field posterior of N samples. Rates in front of Δμ and Δσ (`mean-rate`, 1 here, and `deviation-rate`, 1/2) do not
move that point. The second-order form divides both by 1 + σ |g_σ|: its σ² is that after the sample,
1/σ² + h = (1 + σ g_σ)/σ².

What differs from the source:

- C is a batch's mean cross-entropy, so `horizon` counts samples; the theory's steps would be those of one sample.
- σ begins in proportion to 1/√inputs of a layer, and so do the rows of new classes.
- Normalisation has ordinary parameters, trained by SGD under `sleep`; Gaussian weights have no weight decay and no
  schedule. Epochs, batches and augmentation are those of `sleep`.
- 2 draws in training and 4 in inference (the source: 8), for CPUs.
- Rates of 1000 and 10 and a limit of a tenth of σ. The source's for CIFAR (5, 132, a fiftieth) hardly move the means
  in the few steps there are here. Chosen on one small run of phantom scans, not tuned.
- Federated averaging of μ and of σ. The mean of deviations is no posterior of the pooled scans, whose evidence would
  add up; it keeps σ where each hospital's own rule put it.

A scan's probabilities are the mean over draws; its certainty is minus the mutual information between the answer and
the weights, which is what draws disagree about.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from braincl_med.cortex.cortex import Cortex, Weights, predict
from braincl_med.foundation.arrays import Images
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.base import Answers, Method, grow, raw_scans
from braincl_med.methods.bayesian import PREFIX, BayesianCortex
from braincl_med.methods.evaluate import EVALUATE
from braincl_med.methods.phase import WEIGHTS, Phase, Schedule, Site
from braincl_med.methods.schedules import train_then
from braincl_med.methods.training import FEWEST, SHARED, learned
from braincl_med.phases.sleep import sleep
from braincl_med.settings.config import ExperimentConfig, SleepConfig

LEAST, MOST = 1e-6, 1.0
"""Deviations stay between these."""
INITIAL_DEVIATION = 0.1
"""Of new weights, in units of the standard deviation that keeps a layer's variance (1/√inputs)."""
DRAWS_TRAINING, DRAWS_INFERENCE = 2, 4
"""Draws of the weights for each batch, and for each answer."""


@dataclass(frozen=True)
class Metaplasticity:
    """The rule of the updates.

    Attributes:
        mean_rate, deviation_rate: of the two updates; 1 and 1/2 in the theory.
        horizon: N, the samples whose evidence the posterior holds on to.
        prior_deviation: σ_p.
        second_order: whether steps are damped by what the sample says.
        step_ratio: no step is above this share of the deviation.
    """

    mean_rate: float
    deviation_rate: float
    horizon: float = 1e6
    prior_deviation: float = 1.0
    second_order: bool = True
    step_ratio: float = 0.1


def updates(
    mean: Tensor, deviation: Tensor, mean_gradient: Tensor, deviation_gradient: Tensor, rule: Metaplasticity
) -> tuple[Tensor, Tensor]:
    """(Δμ, Δσ) of one step.

    Args:
        mean, deviation: μ and σ of some weights.
        mean_gradient, deviation_gradient: g_μ and g_σ, averaged over draws.
        rule: horizon, prior, rates, form, and the limit of both steps in units of σ.
    """
    variance, prior, horizon = deviation.square(), rule.prior_deviation**2, rule.horizon
    shift = variance * (mean_gradient + mean / (horizon * prior))
    narrowing = variance * deviation_gradient + deviation * (variance - prior) / (horizon * prior)
    damping = 1 + deviation * deviation_gradient.abs() if rule.second_order else torch.ones_like(deviation)
    limit = rule.step_ratio * deviation
    return (
        (-rule.mean_rate * shift / damping).clamp(-limit, limit),
        (-rule.deviation_rate * narrowing / damping).clamp(-limit, limit),
    )


def optimiser(cortex: BayesianCortex, sleep: SleepConfig, rule: Metaplasticity) -> torch.optim.Optimizer:
    """SGD on the ordinary parameters, and MESU on the Gaussian ones in the same step."""
    pairs = list(cortex.gaussian.values())
    gaussian = {id(parameter) for pair in pairs for parameter in pair}
    descent = torch.optim.SGD(
        [p for p in cortex.parameters() if id(p) not in gaussian],
        sleep.learning_rate,
        momentum=sleep.momentum,
        weight_decay=sleep.weight_decay,
    )

    @torch.no_grad()
    def move(*_: object) -> None:
        for mean, deviation in pairs:
            assert mean.grad is not None
            assert deviation.grad is not None
            deviation.clamp_(LEAST, MOST)
            mean_step, deviation_step = updates(mean, deviation, mean.grad, deviation.grad, rule)
            mean.add_(mean_step)
            deviation.add_(deviation_step).clamp_(LEAST, MOST)
            mean.grad = deviation.grad = None

    descent.register_step_post_hook(move)
    return descent


def mutual_information(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n,) in nats between the answer and the draw: the entropy of the mean minus the mean entropy.

    Args:
        probabilities: (draws, n, classes).
    """

    def entropy(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray((-p * np.log(np.where(p > 0, p, 1))).sum(-1))

    information: npt.NDArray[np.float64] = entropy(probabilities.mean(0)) - entropy(probabilities).mean(0)
    return information.clip(0)


def _answer(cortex: Cortex, images: Images, config: ExperimentConfig) -> Answers:
    """The logarithm of the mean probabilities over draws; as it has no energy, that is the draws' mean energy."""
    assert isinstance(cortex, BayesianCortex)
    draws = cortex.draws(DRAWS_INFERENCE)
    logits = torch.from_numpy(np.stack([predict(draw, images) for draw in draws])).double()
    probabilities = logits.softmax(-1)
    return Answers(
        probabilities.mean(0).clamp_min(torch.finfo(torch.float32).tiny).log().float().numpy(),
        {
            "certainty": -mutual_information(probabilities.numpy()),
            "energy": logits.logsumexp(-1).mean(0).numpy(),
        },
    )


def _train(site: Site, order: Order) -> Report:
    """Train the whole network on the raw scans of the task."""
    scans, rates = site.raw(order.registry, order.task), site.config.mesu
    if len(scans) < FEWEST:
        return Report(site.name)
    cortex = BayesianCortex.of(order.weights, site.config.cortex)
    if not order.round:
        _narrow_new(cortex, order.registry.numbers(order.task).start, INITIAL_DEVIATION)
    rule = Metaplasticity(rates.mean_rate, rates.deviation_rate)

    def expected(network: Cortex, batch: Tensor, labels: Tensor) -> Tensor:
        losses = [functional.cross_entropy(network(batch), labels) for _ in range(DRAWS_TRAINING)]
        return torch.stack(losses).mean()

    loss = sleep(
        cortex,
        scans,
        site.config.sleep,
        order.round,
        site.seed(order),
        0.0,
        expected,
        optimiser_of=lambda _, schedule: optimiser(cortex, schedule, rule),
    )
    return learned(site, order, cortex, WEIGHTS, scans, loss)


@torch.no_grad()
def _narrow_new(cortex: BayesianCortex, known: int, ratio: float) -> None:
    """Multiply the deviations of new weights by `ratio`: all in the first task, later the classifier's new rows.

    The server makes new weights without knowing the method's settings; all hospitals do this alike.
    """
    for name, (_, deviation) in cortex.gaussian.items():
        if not known:
            deviation.mul_(ratio)
        elif name.startswith("classifier."):
            deviation[known:] *= ratio


def _deviation_bytes(weights: Weights) -> dict[str, int]:
    """Bytes of the deviations."""
    held = [tensor for name, tensor in weights.items() if name.startswith(PREFIX)]
    return {"deviations": sum(tensor.numel() * tensor.element_size() for tensor in held)}


TRAIN = Phase("train", _train, WEIGHTS)


def _schedule(config: ExperimentConfig) -> Schedule:
    """Train and evaluate."""
    return train_then(config, TRAIN)


MESU = Method(
    "mesu",
    (TRAIN, *SHARED, EVALUATE),
    _schedule,
    raw_scans,
    grow=partial(grow, kind=BayesianCortex),
    network=BayesianCortex.of,
    answer=_answer,
    extra_bytes=_deviation_bytes,
)
