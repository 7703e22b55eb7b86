"""Many files, one row each: answered in batches, refused with a reason, none left out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from braincl_med.inference.answer import Answer, Verdict, answers
from braincl_med.inference.explain import Explainer
from braincl_med.inference.model import Model
from braincl_med.inference.network import Network
from braincl_med.inference.reading import Pixels, scans_of
from braincl_med.scans.refusals import ScanRefusedError

BATCH = 64


@dataclass(frozen=True)
class Row:
    """What became of one file.

    Attributes:
        file: as it was given.
        answer: None where it was refused.
        refusal: why, else None.
        overlay: the name of the picture that explains the answer, where one was asked for.
    """

    file: Path
    answer: Answer | None = None
    refusal: ScanRefusedError | None = None
    overlay: str = ""

    @property
    def verdict(self) -> Verdict:
        """The answer's, or that it was refused."""
        return self.answer.verdict if self.answer else Verdict.REFUSED


def predict(
    model: Model,
    files: Iterable[Path],
    batch: int = BATCH,
    explainer: Explainer | None = None,
    network: Network | None = None,
) -> Iterator[Row]:
    """A row for every file, in their order.

    Args:
        model: that answers.
        files: of scans.
        batch: so many are answered at once; twice as many are held at most while they are read.
        explainer: draws an overlay of each answered scan.
        network: of the model, where it is made already.

    Raises:
        VaultError: an overlay cannot be written.
    """
    network = Network.of(model) if network is None else network
    held: list[tuple[Path, Pixels | ScanRefusedError]] = []
    for found in scans_of(files, model.size, model.fit, batch):
        held.append(found)
        if len(held) == batch:
            yield from _rows(network, model, held, explainer)
            held = []
    yield from _rows(network, model, held, explainer)


def _rows(
    network: Network, model: Model, held: list[tuple[Path, Pixels | ScanRefusedError]], explainer: Explainer | None
) -> Iterator[Row]:
    read = [scan for _, scan in held if not isinstance(scan, ScanRefusedError)]
    answered = iter(answers(network, model, np.stack(read)) if read else [])
    for file, scan in held:
        if isinstance(scan, ScanRefusedError):
            yield Row(file, refusal=scan)
        else:
            answer = next(answered)
            drawn = explainer.draw(file, scan, answer) if explainer and answer.top else ""
            yield Row(file, answer, overlay=drawn)
