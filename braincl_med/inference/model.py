"""A network that has learned, and what is needed to answer by it."""

from dataclasses import dataclass

from braincl_med.cortex.cortex import Weights
from braincl_med.cortex.familiarity import Familiarity
from braincl_med.evaluation.operating import OperatingPoint
from braincl_med.foundation.errors import ConfigError
from braincl_med.methods import METHODS
from braincl_med.settings.config import CortexConfig, Fit
from braincl_med.streams.tasks import ClassSpec, Registry

UNGAUGED = (
    "this network has no operating point: its probabilities are not calibrated and no scan is called unknown; "
    "evaluate it with this version of the program (a task more, or the experiment afresh) to measure one; under "
    "differential privacy nobody tells what it is measured on"
)
BY_CONFIDENCE = (
    "this network carries no memory, so scans are set aside where the classifier is unsure, which does not tell "
    "unknown ones: for that let hospitals share theirs (federation-familiarity: shared)"
)


@dataclass(frozen=True)
class Model:
    """A network as it is used.

    Attributes:
        experiment: in which it was learned.
        method: by which.
        registry: the tasks that it has learned, and no others.
        cortex: of its settings those of the network, computing in single precision.
        size: pixels a side of the scans that it was trained on.
        fit: how a picture that is no square becomes one.
        weights: of the network.
        familiarity: where features of known scans lie; None where nobody told.
        operating: how its logits become answers; None where that was never measured.
    """

    experiment: str
    method: str
    registry: Registry
    cortex: CortexConfig
    size: int
    fit: Fit
    weights: Weights
    familiarity: Familiarity | None
    operating: OperatingPoint | None

    @property
    def classes(self) -> tuple[ClassSpec, ...]:
        """By class number."""
        return self.registry.classes

    @property
    def temperature(self) -> float:
        """What its logits are divided by; 1 where that was never measured."""
        return self.operating.temperature if self.operating else 1.0

    @property
    def caution(self) -> str | None:
        """What whoever reads its answers must know, or None."""
        if self.operating is None:
            return UNGAUGED
        return None if self.operating.score == "familiarity" else BY_CONFIDENCE


def require_plain(method: str) -> None:
    """Refuse a method whose answers do not come from one network with a linear classifier.

    Raises:
        ConfigError: it is such a method, or none that is known.
    """
    if method not in METHODS or not METHODS[method].plain:
        plain = ", ".join(name for name, known in METHODS.items() if known.plain)
        raise ConfigError(
            f"networks of method '{method[:40]}' cannot be used by themselves yet, those of these can: {plain}"
        )


def alone(cortex: CortexConfig) -> CortexConfig:
    """A network's settings where it is used: in single precision and uncompiled, to answer alike on every machine."""
    return cortex.model_copy(update={"precision": "float32", "compile": False, "weights": ""})
