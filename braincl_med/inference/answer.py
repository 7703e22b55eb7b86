"""What a network says of a scan, as a person reads it."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch

from braincl_med.foundation.arrays import Images
from braincl_med.inference.model import Model
from braincl_med.inference.network import Network, surest

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
        sure: the largest softmax probability before calibration.
    """

    verdict: Verdict
    top: tuple[tuple[int, float], ...]
    score: float
    sure: float

    @property
    def number(self) -> int:
        """The most probable class."""
        return self.top[0][0]


def answers(network: Network, model: Model, images: Images) -> list[Answer]:
    """Answers to scans (n, size, size, 3), n ≥ 1."""
    with torch.inference_mode():
        logits, probabilities, scores = network(torch.from_numpy(images).to(network.cortex.device))
        given = (probabilities, scores, surest(logits))
        probabilities, scores, sure = (t.cpu().numpy() for t in given)
    finite = np.isfinite(probabilities).all(1) & np.isfinite(scores)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    tops = np.take_along_axis(probabilities, order, 1)
    return [
        Answer(_verdict(model, score, certain), tuple(zip(numbers, shares, strict=True)), score, certain)
        if sound
        else _none(model)
        for numbers, shares, score, certain, sound in zip(
            order.tolist(), tops.tolist(), scores.tolist(), sure.tolist(), finite.tolist(), strict=True
        )
    ]


def _none(model: Model) -> Answer:
    """What is said of a scan that drives the network to infinity, or by a network that is damaged."""
    return Answer(Verdict.UNKNOWN if model.familiarity else Verdict.UNSURE, (), float("nan"), float("nan"))


def _verdict(model: Model, score: float, sure: float) -> Verdict:
    operating = model.operating
    if operating is None:
        return Verdict.UNGAUGED
    if score < operating.threshold:
        return Verdict.UNKNOWN if operating.score == "familiarity" else Verdict.UNSURE
    return Verdict.UNSURE if operating.sure is not None and sure < operating.sure else Verdict.ANSWERED
