"""What the server asks of a hospital and what it answers: weights, counts and figures, never a scan or a cue."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from braincl_med.cortex.cortex import Weights
from braincl_med.streams.tasks import Registry

SHARED_PHASES = ("encode", "wake", "select", "sleep", "train", "calibrate", "discriminate", "evaluate")
"""The phases that every hospital knows; a method may bring others."""
PHASES_WITHOUT_UPDATE = frozenset({"encode", "select", "dream", "remember", "evaluate"})
"""All other phases answer with the tensors of the shared network that they changed, `discriminate` with moments."""


@dataclass(frozen=True)
class Order:
    """One step for every hospital.

    Attributes:
        experiment: whose vault folder is meant.
        task: the task being learned.
        phase: one of `SHARED_PHASES`, or one of the method's own.
        round: of the phase, from 0.
        registry: all tasks known to the server.
        weights: the shared network; empty where the phase needs none.
    """

    experiment: str
    task: int
    phase: str
    round: int
    registry: Registry
    weights: Weights = field(default_factory=dict)

    def text(self) -> str:
        """All but the weights, as JSON."""
        return json.dumps(
            {
                "experiment": self.experiment,
                "task": self.task,
                "phase": self.phase,
                "round": self.round,
                "registry": self.registry.model_dump(mode="json"),
            }
        )

    @staticmethod
    def parse(text: str, weights: Weights) -> "Order":
        """The inverse of `text`, with the weights that came beside it."""
        fields = json.loads(text)
        return Order(**{**fields, "registry": Registry.model_validate(fields["registry"])}, weights=weights)

    def __str__(self) -> str:
        return f"{self.phase} round {self.round + 1} of task '{self.registry.tasks[self.task].name}'"


@dataclass(frozen=True)
class Report:
    """One hospital's answer.

    Attributes:
        hospital: its name.
        examples: how many samples the phase worked on; the weight of its update.
        loss: mean training loss, None where nothing was trained.
        figures: what an evaluation counted (confusion, scores, storage); empty otherwise.
        weights: the tensors that the phase changed; empty where it changed none.
        failure: one sentence when the phase could not be done, else empty.
    """

    hospital: str
    examples: int = 0
    loss: float | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    weights: Weights = field(default_factory=dict)
    failure: str = ""

    def text(self) -> str:
        """All but the weights, as JSON."""
        return json.dumps(
            {
                "hospital": self.hospital,
                "examples": self.examples,
                "loss": self.loss,
                "figures": self.figures,
                "failure": self.failure,
            }
        )

    @staticmethod
    def parse(text: str, weights: Weights) -> "Report":
        """The inverse of `text`, with the weights that came beside it.

        Raises:
            ValueError, TypeError: it is not the text of a report.
        """
        report = Report(**json.loads(text), weights=weights)
        examples, loss = report.examples, report.loss
        sound = (
            isinstance(report.hospital, str)
            and isinstance(report.failure, str)
            and isinstance(report.figures, dict)
            and isinstance(examples, int)
            and examples >= 0
            and (loss is None or (isinstance(loss, int | float) and math.isfinite(loss)))
        )
        if not sound:
            raise ValueError("a report's name, counts or loss are not what they should be")
        return report


def size_of(message: Order | Report) -> int:
    """Bytes of a message's weights and text, without the transport's own."""
    return len(message.text().encode()) + sum(t.numel() * t.element_size() for t in message.weights.values())
