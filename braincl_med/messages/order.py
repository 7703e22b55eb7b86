"""What the server asks of every hospital."""

import json
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from braincl_med.cortex.cortex import Weights
from braincl_med.foundation.errors import FederationError
from braincl_med.streams.tasks import Registry


@dataclass(frozen=True)
class Order:
    """One step for every hospital.

    Attributes:
        experiment: which one is meant; the hospital's own configuration says where it lies.
        task: the task being learned.
        phase: the name of one of the method's phases.
        round: of the phase, from 0.
        registry: all tasks known to the server.
        weights: the shared network, and beside it what the phase needs; empty where it needs none.
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
        """The inverse of `text`, with the weights that came beside it.

        Raises:
            FederationError: it is not the text of an order.
        """
        try:
            told = _Text.model_validate_json(text)
        except ValidationError as error:
            raise FederationError(f"the order cannot be read ({error.errors()[0]['type']})") from None
        return Order(told.experiment, told.task, told.phase, told.round, told.registry, weights)

    def __str__(self) -> str:
        return f"{self.phase} round {self.round + 1} of task '{self.registry.tasks[self.task].name}'"


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    experiment: str
    task: int = Field(ge=0)
    phase: str
    round: int = Field(ge=0)
    registry: Registry
