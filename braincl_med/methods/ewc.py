"""EWC: elastic weight consolidation (Kirkpatrick et al. 2017).

    train ─► cross-entropy + λ/2 · Σ F (θ − θ*)²
    remember ─► F, the diagonal Fisher information of the task's raw scans, and θ*, its final weights, are kept

F is the mean over scans of the squared gradient of log p(y | x), y drawn from the network's own answer: the Fisher
information itself, not the "empirical" one of true labels. Scan by scan, batch statistics frozen, over at most
200 scans and all classes known so far. Old classes' rows have F and θ* of the tasks that knew them; rows
of new classes are free.

Variants: `plain` keeps F and θ* of every task and adds their penalties. `online` (Schwarz et al. 2018, without their
decay) keeps the sum of F over tasks and the latest θ* alone: bytes that do not grow.

Deviations:

- Federated averaging. Every hospital takes F on its own scans and keeps it to itself, so nothing beyond the averaged
  weights leaves a hospital; θ* is the same everywhere. A hospital that had no scan of a task does not defend it.
- Trained within the budget of `sleep`.
- λF is cut at 1 / `sleep-learning-rate`. Beyond, gradient steps overshoot θ*, and far beyond they diverge; at the cut
  a weight is held to within one step.
- Statistics of batch normalisation have no gradient and hence no F: they follow the current task.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from braincl_med.cortex.cortex import Cortex, Weights, scans_to_tensor
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.base import Method, raw_scans
from braincl_med.methods.kept import Kept
from braincl_med.methods.phase import Phase, Schedule, Site, rounds
from braincl_med.methods.schedules import TRAINED, train_then
from braincl_med.methods.training import TRAIN
from braincl_med.phases.objectives import objective_of
from braincl_med.phases.sleep import Objective
from braincl_med.settings.config import ExperimentConfig

FISHER_SAMPLES = 200
"""Scans of a task over which F is taken, one gradient each: more take longer and change little."""
ITEM = "fisher"
FISHER = "fisher."
ANCHOR = "anchor."


def fisher(network: nn.Module, scans: Tensor, generator: torch.Generator | None = None) -> Weights:
    """The diagonal Fisher information of a network's parameters, by name.

    Args:
        network: gives logits (B, classes); put into evaluation mode.
        scans: (n, …), at least one, where the network is.
        generator: draws the labels from the network's answers; the global one by default.

    Returns:
        One number for each of theirs, on the CPU.
    """
    network.eval()
    parameters = dict(network.named_parameters())
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for scan in scans:
        log_probabilities = functional.log_softmax(network(scan[None])[0], 0)
        label = torch.multinomial(log_probabilities.detach().exp().cpu(), 1, generator=generator)
        gradients = torch.autograd.grad(log_probabilities[label].sum(), list(parameters.values()))
        for sum_of_squares, gradient in zip(total.values(), gradients, strict=True):
            sum_of_squares += gradient.square()
    return {name: (sum_of_squares / len(scans)).cpu() for name, sum_of_squares in total.items()}


def joined(pairs: list[tuple[Weights, Weights]]) -> tuple[Weights, Weights]:
    """One (F, θ*) whose penalty differs from the sum of the penalties of all `pairs` by a constant.

    That is the sum of F, and the mean of θ* weighted by F: a sum of parabolas is a parabola. Rows that an earlier
    pair has not got have no F in it. Where no pair has any F, θ* is the latest.
    """
    latest = pairs[-1][1]
    total = {name: torch.zeros_like(anchor) for name, anchor in latest.items()}
    weighted = {name: torch.zeros_like(anchor) for name, anchor in latest.items()}
    for importance, anchor in pairs:
        for name, mine in importance.items():
            total[name][: len(mine)] += mine
            weighted[name][: len(mine)] += mine * anchor[name]
    anchors = {n: torch.where(total[n] > 0, weighted[n] / total[n].clamp_min(1e-38), latest[n]) for n in latest}
    return total, anchors


def curvature_of(importance: Weights, strength: float, learning_rate: float) -> Weights:
    """λF, cut at one over the learning rate."""
    return {name: (strength * mine).clamp_max(1 / learning_rate) for name, mine in importance.items()}


def penalty(network: nn.Module, curvature: Weights, anchor: Weights) -> Tensor:
    """1/2 · Σ curvature · (θ − θ*)² over the rows that `anchor` has."""
    terms = [
        (curvature[name] * (parameter[: len(anchor[name])] - anchor[name]).square()).sum()
        for name, parameter in network.named_parameters()
        if name in anchor
    ]
    return torch.stack(terms).sum() / 2


def elastic(objective: Objective, curvature: Weights, anchor: Weights) -> Objective:
    """`objective` plus the penalty; `curvature` is λF."""

    def loss(cortex: Cortex, scans: Tensor, labels: Tensor) -> Tensor:
        return objective(cortex, scans, labels) + penalty(cortex, curvature, anchor)

    return loss


def _kept(kept: Kept, task: int) -> tuple[Weights, Weights] | None:
    """(F, θ*) as kept of a task."""
    arrays = kept.load(ITEM, task)
    if arrays is None:
        return None
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    importance = {name.removeprefix(FISHER): t for name, t in tensors.items() if name.startswith(FISHER)}
    return importance, {name.removeprefix(ANCHOR): t for name, t in tensors.items() if name.startswith(ANCHOR)}


def _former(site: Site, task: int) -> list[tuple[Weights, Weights]]:
    """What is kept of the tasks before `task`, the latest last; of `online` the latest alone, which has it all."""
    pairs = [pair for earlier in range(task) if (pair := _kept(site.kept, earlier)) is not None]
    return pairs[-1:] if site.config.ewc.variant == "online" else pairs


def _objective(site: Site, order: Order, cortex: Cortex) -> Objective | None:
    """The loss of `train`; plain where nothing is to be defended yet."""
    former = _former(site, order.task)
    if not former:
        return None
    importance, anchor = joined(former)
    sleep = site.config.sleep
    curvature = curvature_of(importance, site.config.ewc.strength, sleep.learning_rate)
    labels = site.raw(order.registry, order.task).labels
    curvature, anchor = ({n: t.to(cortex.device) for n, t in weights.items()} for weights in (curvature, anchor))
    return elastic(objective_of(sleep, labels, cortex), curvature, anchor)


def _remember(site: Site, order: Order) -> Report:
    """Keep (F, θ*) of the task; in the second round, delete those before it.

    Two rounds, because a first round that is repeated after an interruption needs the former sum.
    """
    raw = site.raw(order.registry, order.task)
    if not len(raw):
        return Report(site.name)
    if order.round:
        # A hospital that missed the first round has nothing newer than the former sum.
        for earlier in range(order.task) if site.kept.load(ITEM, order.task) is not None else ():
            site.kept.forget(ITEM, earlier)
        return Report(site.name, len(raw))
    seed = site.seed(order)
    chosen = np.random.default_rng(seed).permutation(len(raw))[:FISHER_SAMPLES]
    cortex = Cortex.of(order.weights, site.config.cortex)
    scans = scans_to_tensor(raw.images[chosen]).to(cortex.device)
    importance = fisher(cortex, scans, torch.Generator().manual_seed(seed))
    if site.config.ewc.variant == "online":
        for before, _ in _former(site, order.task):
            for name, mine in before.items():
                importance[name][: len(mine)] += mine
    arrays = {f"{FISHER}{name}": tensor.numpy() for name, tensor in importance.items()}
    arrays |= {f"{ANCHOR}{name}": parameter.detach().cpu().numpy() for name, parameter in cortex.named_parameters()}
    site.kept.save(ITEM, order.task, arrays)
    return Report(site.name, len(chosen))


REMEMBER = Phase("remember", _remember)


def _schedule(config: ExperimentConfig) -> Schedule:
    """Train, remember, evaluate; `online` deletes in a second round of `remember` what the first one replaced."""
    *trained, evaluate = train_then(config, TRAIN)
    return (*trained, *rounds(REMEMBER, 1 if config.ewc.variant == "plain" else 2), evaluate)


EWC = Method("ewc", (*TRAINED, REMEMBER), _schedule, raw_scans, objective=_objective)
