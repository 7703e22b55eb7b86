"""What a hospital answers, and how little of it is believed: one strict schema with limits on everything.

Whatever is wrong is that hospital's refusal, in one sentence, and never the end of the run. Whether a well-formed
update is a good one is another question.
"""

import json
import math
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from braincl_med.cortex.cortex import Tensors
from braincl_med.foundation.errors import FederationError
from braincl_med.foundation.texts import LONGEST, one_line
from braincl_med.messages.compact import size_of_tensors
from braincl_med.messages.order import Masking, Order

LONGEST_TEXT = 1 << 21
"""Characters of a report: an evaluation of 200 classes needs a tenth."""
MOST_SAMPLES = 10**8
"""Samples that one hospital may say it worked on; an update weighs as much as its samples."""
LARGEST_LOSS = 1e9
"""A loss beyond is no loss of a network that trains, and sums of such would overflow."""


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("a name has characters that cannot be seen")
    return name


HospitalName = Annotated[
    str, StringConstraints(pattern=r"^\w([\w .,'()&-]{0,61}[\w.)])?$"), AfterValidator(_printable)
]
"""Letters of any script, digits and a little punctuation: a name stands in tables, file names and on terminals."""


@dataclass(frozen=True)
class Report:
    """One hospital's answer.

    Attributes:
        hospital: its name; may be empty in a failure, before the hospital knew it.
        examples: how many samples the phase worked on; the weight of its update.
        loss: mean training loss, None where nothing was trained or the loss was no number.
        figures: what an evaluation counted (confusion, scores, storage), or samples by class; empty otherwise.
        weights: the tensors that the phase answers with; empty where it has none.
        failure: one sentence when the phase could not be done, else empty.
        threads: of the computation, on which the last bits of weights and cues depend; 0 where it is not said.
        masking: what it says of masks, where updates are summed under them; empty otherwise.
        sender: who sent it as the transport knows it, which no hospital can choose; not part of the text.
        bytes_down, bytes_up: of its order and of itself as they went; 0 where no transport counted them, nor are they
            part of the text.
        key: SHA-256 of the public key that the transport has registered for the sender and that stays its own over
            runs; empty where it has none. Not part of the text either.
    """

    hospital: str
    examples: int = 0
    loss: float | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    weights: Tensors = field(default_factory=dict)
    failure: str = ""
    threads: int = 0
    masking: str = ""
    sender: str = ""
    bytes_down: int = 0
    bytes_up: int = 0
    key: str = ""

    def text(self) -> str:
        """All but the weights and what the transport says, as JSON."""
        return json.dumps(
            {
                "hospital": self.hospital,
                "examples": self.examples,
                "loss": self.loss,
                "figures": self.figures,
                "failure": self.failure[:LONGEST],
                "threads": self.threads,
                **({"masking": self.masking} if self.masking else {}),
            }
        )

    @staticmethod
    def parse(text: str, weights: Tensors) -> "Report":
        """The inverse of `text`, with the weights that came beside it.

        Raises:
            FederationError: it is not the text of a report, or something in it is beyond its limit.
        """
        if len(text) > LONGEST_TEXT:
            raise FederationError(f"its answer has {len(text):,} characters, at most {LONGEST_TEXT:,} are read")
        try:
            told = _Text.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part)[:40] for part in first["loc"][:2]) or "its text"
            raise FederationError(f"its answer cannot be used: {where}: {first['msg'].lower()[:120]}") from None
        if not told.hospital and not told.failure:
            raise FederationError("its answer cannot be used: it has no name")
        return Report(
            hospital=told.hospital,
            examples=told.examples,
            loss=told.loss,
            figures=told.figures,
            weights=weights,
            failure=one_line(told.failure),
            threads=told.threads,
            masking=told.masking,
        )


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    hospital: HospitalName | Annotated[str, Field(max_length=0)]
    examples: int = Field(ge=0, le=MOST_SAMPLES)
    loss: Annotated[float, Field(ge=-LARGEST_LOSS, le=LARGEST_LOSS, allow_inf_nan=False)] | None
    figures: dict[str, Any]
    failure: str = Field(max_length=LONGEST)
    threads: int = Field(default=0, ge=0, le=1 << 16)
    masking: Masking = ""


def told_loss(loss: float | None) -> float | None:
    """A loss as a hospital tells it: None where training diverged, so that it is no number or beyond all sense."""
    return loss if loss is not None and math.isfinite(loss) and abs(loss) <= LARGEST_LOSS else None


def size_of(message: Order | Report) -> int:
    """Bytes of a message's weights and text, without the transport's own."""
    return len(message.text().encode()) + size_of_tensors(message.weights)
