"""What an epoch of sleep takes: everything, or the new task and a bounded number of former samples."""

from collections.abc import Callable

import torch
from torch import Tensor

Draw = Callable[[Tensor], Tensor]
"""From class numbers (n,) to the places of an epoch's samples, in the order in which they are taken."""


def everything(labels: Tensor) -> Tensor:
    """All samples in a random order."""
    return torch.randperm(len(labels))


def bounded(first_new: int, classes: int, budget: float) -> Draw:
    """All samples of the new task, and `budget` times a task's worth of the others, drawn anew for every epoch.

    A task's worth is the share of all samples that the new classes have of all classes, so that a hospital without
    scans of the new task trains as long. The draw takes from the former classes in turn: those of few samples are
    taken whole, the others give equally many. However many tasks came before, an epoch takes as long.

    Args:
        first_new: number of the new task's first class; its classes are the last ones.
        classes: how many are known.
        budget: at least 0.
    """

    def draw(labels: Tensor) -> Tensor:
        shuffled = torch.randperm(len(labels))
        new = labels[shuffled] >= first_new
        former = shuffled[~new]
        worth = len(labels) * (classes - first_new) / classes
        turns = torch.argsort(_turns(labels[former], classes), stable=True)[: round(budget * worth)]
        taken = torch.cat([shuffled[new], former[turns]])
        return taken[torch.randperm(len(taken))]

    return draw


def _turns(labels: Tensor, classes: int) -> Tensor:
    """How many samples of the same class stand before each one."""
    ahead = torch.nn.functional.one_hot(labels, classes).cumsum(0)
    return ahead.gather(1, labels[:, None])[:, 0]
