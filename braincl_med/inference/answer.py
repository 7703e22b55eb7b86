"""What a network says of a scan, as a person reads it."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch

from braincl_med.foundation.arrays import Images
from braincl_med.inference.model import Model
from braincl_med.inference.network import Network

TOP = 3


class Verdict(StrEnum):
    """What becomes of a scan."""

    ANSWERED = "answered"
    UNKNOWN = "unknown: for a person to read"
    UNSURE = "unsure: for a person to read"
    UNGAUGED = "answered: neither calibrated nor checked for unknown scans"
    REFUSED = "refused"


@dataclass(frozen=True)
class Answer:
    """A network's answer to one scan.

    Attributes:
        verdict: whether it stands.
        top: the numbers of the most probable classes and their probabilities, the most probable first; none where the
            network's numbers are not finite.
        score: how familiar the scan is, or how sure the classifier; larger is more.
    """

    verdict: Verdict
    top: tuple[tuple[int, float], ...]
    score: float

    @property
    def number(self) -> int:
        """The most probable class."""
        return self.top[0][0]


def answers(network: Network, model: Model, images: Images) -> list[Answer]:
    """Answers to scans (n, size, size, 3), n ≥ 1."""
    with torch.inference_mode():
        _, probabilities, scores = (
            t.cpu().numpy() for t in network(torch.from_numpy(images).to(network.cortex.device))
        )
    finite = np.isfinite(probabilities).all(1) & np.isfinite(scores)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    tops = np.take_along_axis(probabilities, order, 1)
    return [
        Answer(_verdict(model, score), tuple(zip(numbers, shares, strict=True)), score) if sound else _none(model)
        for numbers, shares, score, sound in zip(
            order.tolist(), tops.tolist(), scores.tolist(), finite.tolist(), strict=True
        )
    ]


def _none(model: Model) -> Answer:
    """What is said of a scan that drives the network to infinity, or by a network that is damaged."""
    return Answer(Verdict.UNKNOWN if model.familiarity else Verdict.UNSURE, (), float("nan"))


def _verdict(model: Model, score: float) -> Verdict:
    if model.operating is None:
        return Verdict.UNGAUGED
    if score >= model.operating.threshold:
        return Verdict.ANSWERED
    return Verdict.UNKNOWN if model.operating.score == "familiarity" else Verdict.UNSURE
