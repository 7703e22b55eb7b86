"""What the server asks of every hospital."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from braincl_med.cortex.cortex import Weights
from braincl_med.foundation.errors import FederationError
from braincl_med.streams.tasks import Registry

LONGEST_MASKING = 1 << 20
"""Characters of what is said of masks beside an order or a report (`masking.wire`)."""
Masking = Annotated[str, Field(max_length=LONGEST_MASKING)]
LONGEST_TEXT = 1 << 22
"""Characters of an order: twice what is said of masks, and a registry of thousands of classes."""


class Examine(BaseModel):
    """What an examination goes by: the temperature of confidence, and how many scans of a class at most."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    temperature: float = Field(gt=0, le=128, allow_inf_nan=False)
    per_class: int = Field(ge=1, le=10_000)


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
        masking: what the server says of masks, where updates are summed under them; empty otherwise.
        letters: by sender, as the transport knows it, what is for one hospital alone; where there are any, the order
            goes to these hospitals only.
        letter: of these, this hospital's own.
        examine: what an examination goes by; None in other orders.
    """

    experiment: str
    task: int
    phase: str
    round: int
    registry: Registry
    weights: Weights = field(default_factory=dict)
    masking: str = ""
    letters: Mapping[str, str] = field(default_factory=dict)
    letter: str = ""
    examine: Examine | None = None

    def addressed(self, sender: str) -> "Order":
        """The order as it goes to one hospital: with its own letter, and nobody else's."""
        return replace(self, letters={}, letter=self.letters.get(sender, ""))

    def text(self) -> str:
        """All but the weights, as JSON."""
        return json.dumps(
            {
                "experiment": self.experiment,
                "task": self.task,
                "phase": self.phase,
                "round": self.round,
                "registry": self.registry.model_dump(mode="json"),
                # Said only where it is said at all, so that other orders have the bytes that they had.
                **{key: text for key, text in (("masking", self.masking), ("letter", self.letter)) if text},
                **({"examine": self.examine.model_dump()} if self.examine else {}),
            }
        )

    @staticmethod
    def parse(text: str, weights: Weights) -> "Order":
        """The inverse of `text`, with the weights that came beside it.

        Raises:
            FederationError: it is not the text of an order, or something in it is beyond its limit.
        """
        if len(text) > LONGEST_TEXT:
            raise FederationError(f"the order has {len(text):,} characters, at most {LONGEST_TEXT:,} are read")
        try:
            told = _Text.model_validate_json(text)
        except ValidationError as error:
            raise FederationError(f"the order cannot be read ({error.errors()[0]['type']})") from None
        return Order(
            told.experiment,
            told.task,
            told.phase,
            told.round,
            told.registry,
            weights,
            told.masking,
            letter=told.letter,
            examine=told.examine,
        )

    def __str__(self) -> str:
        return f"{self.phase} round {self.round + 1} of task '{self.registry.tasks[self.task].name}'"


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    experiment: str = Field(max_length=100)
    task: int = Field(ge=0, le=10_000)
    phase: str = Field(max_length=100)
    round: int = Field(ge=0, le=1_000_000)
    registry: Registry
    masking: Masking = ""
    letter: Masking = ""
    examine: Examine | None = None
