"""One scan in memory: what the network says of it, and which memory it is most like."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braincl_med.cortex.cortex import extract_features
from braincl_med.foundation.errors import ConfigError, VaultError
from braincl_med.inference.answer import Answer, answers
from braincl_med.inference.explain import Maps, overlay
from braincl_med.inference.model import Model
from braincl_med.inference.network import Network
from braincl_med.inference.reading import Pixels
from braincl_med.scans.reading import read_content
from braincl_med.streams.tasks import Scans
from braincl_med.vault.folders import is_experiment
from braincl_med.vault.keys import NO_KEYS, Keys
from braincl_med.vault.vault import Vault


@dataclass(frozen=True)
class Nearest:
    """The memory whose features lie nearest to a scan's.

    Attributes:
        recall: (size, size, 3) as it is recalled.
        number: its class.
        familiar: of all memories, the share that the network finds less familiar than the scan.
    """

    recall: Pixels
    number: int
    familiar: float


@dataclass(frozen=True)
class Tried:
    """What became of a scan.

    Attributes:
        scan: (size, size, 3) as the network saw it.
        answer: the network's.
        overlay: the scan with the places coloured that speak for the answer; None where there is none to explain.
        nearest: None where no memories were named.
    """

    scan: Pixels
    answer: Answer
    overlay: Pixels | None
    nearest: Nearest | None


@dataclass(frozen=True)
class _Memories:
    scans: Scans
    features: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float64]


class Trial:
    """A network, and the memories of one hospital if they are named; nothing that it reads is written anywhere.

    Args:
        model: the network.
        vault: a hospital's vault or its folder of the network's experiment.
        keys: of the vault, if it is sealed.

    Raises:
        VaultError: the vault cannot be read, or remembers other classes than the network knows.
    """

    def __init__(self, model: Model, vault: Path | None = None, keys: Keys = NO_KEYS) -> None:
        self.model = model
        self.network = Network.of(model)
        try:
            self.maps: Maps | None = Maps(model)
        except ConfigError:  # a transformer's answers are not explained
            self.maps = None
        self.memories = None if vault is None else self._remembered(vault, keys)

    def of(self, content: bytes) -> Tried:
        """What the network says of the scan in a file's content.

        Raises:
            ScanRefusedError: it is no scan.
        """
        scan = read_content(content, self.model.size, self.model.fit)
        (answer,) = answers(self.network, self.model, scan[None])
        picture = overlay(scan, self.maps.of(scan, answer.number)) if self.maps and answer.top else None
        return Tried(scan, answer, picture, self._nearest(scan, answer))

    def _remembered(self, vault: Path, keys: Keys) -> _Memories:
        folder = vault if vault.is_dir() and is_experiment(vault) else vault / self.model.experiment
        if not folder.is_dir() or not is_experiment(folder):
            raise VaultError(f"'{vault.name}' holds no memories of '{self.model.experiment}': name a vault that does")
        held, known = Vault(folder, keys), [spec.key for spec in self.model.classes]
        recalled = []
        for entry in held.manifest().entries:
            named = {shard.label: shard.dataset_label for shard in held.load_entry(entry).header.shards}
            if any(label >= len(known) or known[label] != key for label, key in named.items()):
                raise VaultError(
                    f"'{vault.name}' remembers other classes than the network knows: name the vault of its experiment"
                )
            recalled.append(held.recall(entry.task))
        scans = Scans.join(recalled)
        features = extract_features(self.network.cortex, scans.images)
        scores = [answer.score for start in range(0, len(scans), 256) for answer in self._answers(scans, start)]
        return _Memories(scans, np.asarray(features), np.array(scores))

    def _answers(self, scans: Scans, start: int) -> list[Answer]:
        return answers(self.network, self.model, scans.images[start : start + 256])

    def _nearest(self, scan: Pixels, answer: Answer) -> Nearest | None:
        if self.memories is None or not len(self.memories.scans):
            return None
        offsets = self.memories.features - np.asarray(extract_features(self.network.cortex, scan[None]))
        if self.model.familiarity is not None:  # as its score measures them
            offsets = offsets @ self.model.familiarity.whitening.numpy().astype(offsets.dtype)
        at = int(np.square(offsets).sum(1).argmin())
        return Nearest(
            recall=self.memories.scans.images[at],
            number=int(self.memories.scans.labels[at]),
            familiar=float((self.memories.scores < answer.score).mean()),
        )
