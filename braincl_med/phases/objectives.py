"""Losses for hospitals whose samples are unlike the others': classes of different sizes, networks drifting apart."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from braincl_med.cortex.cortex import Cortex
from braincl_med.phases.sleep import Objective, cross_entropy
from braincl_med.settings.config import SleepConfig


def objective_of(config: SleepConfig, labels: npt.NDArray[np.int64], cortex: Cortex) -> Objective:
    """The loss of a round at one hospital: cross-entropy, balanced and held near the shared network as configured.

    Args:
        config: `balance` and `proximal`.
        labels: (n,) class numbers of the samples to train on.
        cortex: the shared network as it came.
    """
    objective = balanced(config.balance, labels, cortex.classifier.out_features)
    return proximal(objective, cortex, config.proximal) if config.proximal else objective


def balanced(balance: str, labels: npt.NDArray[np.int64], classes: int) -> Objective:
    """Cross-entropy for classes of different sizes.

    Args:
        balance: `none`; `loss` weights a class by one over its number of samples, such that the mean weight of a
            sample is 1; `logits` adds log shares to the logits (Menon et al. 2021), so that the network itself learns
            what it would from classes of one size; in both classes without a sample count as having one. `present`
            leaves them out of the softmax (Li & Zhan 2021), so that nobody forgets what others alone have; with
            samples of one class alone, of which nothing would be learned then, it changes nothing.
        labels: (n,) class numbers.
        classes: rows of the classifier.
    """
    counts = torch.from_numpy(np.bincount(labels, minlength=classes)).float()
    if balance == "loss":
        present = (counts > 0).sum()
        weights = len(labels) / present / counts.clamp_min(1)

        def weighted(cortex: Cortex, scans: Tensor, truth: Tensor) -> Tensor:
            losses = functional.cross_entropy(cortex(scans), truth, reduction="none")
            return (losses * weights.to(losses.device)[truth]).mean()

        return weighted
    if balance == "logits":
        shares = (counts.clamp_min(1) / len(labels)).log()

        def adjusted(cortex: Cortex, scans: Tensor, truth: Tensor) -> Tensor:
            logits = cortex(scans)
            return functional.cross_entropy(logits + shares.to(logits.device), truth)

        return adjusted
    absent = counts == 0
    if balance == "present" and (~absent).sum() > 1:

        def restricted(cortex: Cortex, scans: Tensor, truth: Tensor) -> Tensor:
            logits = cortex(scans)
            return functional.cross_entropy(logits.masked_fill(absent.to(logits.device), -torch.inf), truth)

        return restricted
    return cross_entropy


def proximal(objective: Objective, cortex: Cortex, strength: float) -> Objective:
    """FedProx (Li et al. 2020): plus μ/2 times the squared distance of the weights from where the round began."""
    start = [p.detach().clone() for p in cortex.parameters()]

    def held(now: Cortex, scans: Tensor, truth: Tensor) -> Tensor:
        distance = sum(
            (((p - s) ** 2).sum() for p, s in zip(now.parameters(), start, strict=True)), start=scans.new_zeros(())
        )
        return objective(now, scans, truth) + strength / 2 * distance

    return held
