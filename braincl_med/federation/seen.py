"""What a hospital remembers of the orders of an experiment, so that the next can only go on from there.

A server that could rename what was learned, or send a network blown up beyond all training, could have hospitals read
scans for it: crafted networks carry single scans through a sum of updates (Shi et al. 2024, MedLeak).
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from braincl_med.cortex.cortex import Weights
from braincl_med.cortex.gaussians import MOMENTS
from braincl_med.foundation.checked import read_checked, with_checksum
from braincl_med.foundation.files import (
    make_private,
    storage_error,
    write_whole,
)
from braincl_med.messages.order import Order
from braincl_med.methods.phase import BEFORE
from braincl_med.streams.tasks import TaskSpec

FOLDER = ".federation"
"""What a hospital remembers of its federation, beside its experiments; none of them has such a name."""
NAME = "seen.json"
LARGEST = 1e5
"""Norm of a network that is taken at all; 10^7 weights of 0.03, a ResNet-18's, have 100."""
GROWTH = 10.0
"""How many times the norm of the one before a network may have; no round of training has shown 1.5."""


class Seen(BaseModel):
    """Of the last order that was carried out.

    Attributes:
        tasks: those begun, in order.
        norm: of the shared network; 0 before the first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    tasks: tuple[TaskSpec, ...] = ()
    norm: float = 0.0

    def objection(self, order: Order) -> str | None:
        """Why an order does not go on from here, or None."""
        now = order.registry.tasks
        for number, task in enumerate(self.tasks):
            if number >= len(now) or not now[number].is_as(task):
                return (
                    f"its task {number} is not '{task.name}' with the classes that were learned: a registry grows at "
                    "its end alone; give the server back its checkpoint, or begin afresh under another name"
                )
        norm = norm_of(order.weights)
        most = min(LARGEST, GROWTH * self.norm) if self.norm else LARGEST
        if norm > most:
            return f"its network has norm {norm:.3g}, at most {most:.3g} is taken"
        return None

    def after(self, order: Order) -> "Seen":
        """What is remembered once an order was taken."""
        begun = max(len(self.tasks), order.task + 1)
        return Seen(tasks=order.registry.tasks[:begun], norm=norm_of(order.weights) or self.norm)


def norm_of(weights: Weights) -> float:
    """The Euclidean norm of a network's trained tensors; statistics and what lies beside it have their own limits."""
    squares = [
        float(tensor.double().square().sum())
        for name, tensor in weights.items()
        if tensor.is_floating_point() and "running_" not in name and not name.startswith((MOMENTS, BEFORE))
    ]
    return float(sum(squares) ** 0.5)


def read_seen(folder: Path) -> Seen:
    """What was remembered; nothing where there is no file.

    Raises:
        VaultError: it is damaged, or cannot be read.
    """
    damaged = f"'{NAME}' is damaged: restore it, or delete it to take the next order on trust"
    return read_checked(folder / NAME, "seen", Seen, damaged) or Seen()


def write_seen(folder: Path, seen: Seen) -> None:
    """Remember; for this hospital alone.

    Raises:
        VaultError: it cannot be written.
    """
    try:
        make_private(folder.parent)
        make_private(folder)
    except OSError as error:
        raise storage_error(folder / NAME, 0, error) from error
    write_whole(folder / NAME, with_checksum("seen", seen.model_dump(mode="json")))
