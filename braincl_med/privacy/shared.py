"""Attacks on what a hospital sends and the server keeps: the shared network, and one unmasked update of it."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from braincl_med.cortex.cortex import Cortex, scans_to_tensor
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, load_network
from braincl_med.foundation.errors import BrainclError
from braincl_med.foundation.seeding import seed_for
from braincl_med.privacy.attacks.inversion import Attack, gradients, invert
from braincl_med.privacy.attacks.membership import Membership, lira
from braincl_med.privacy.attacks.shadows import FEWEST, MOST, confidence, network_shadows
from braincl_med.privacy.attacks.update import judged, read
from braincl_med.privacy.fidelity import Pairs
from braincl_med.privacy.pool import Pool, members_of, strangers_of
from braincl_med.privacy.words import SHARED
from braincl_med.settings.config import CortexConfig
from braincl_med.settings.memory import LinearMemory, MemoryConfig
from braincl_med.streams.tasks import Scans

BATCHES, UPDATES = (1, 2, 8), 32
ATTACKS: tuple[Attack, ...] = ("squared", "cosine")
NOT_AT_HAND = "the shared network was not at hand (name its state root with --state)"
Found = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """What is known of an experiment beside its vaults.

    Attributes:
        network: the shared one.
        memory: under which settings memories are fitted.
    """

    network: Cortex | None = None
    memory: LinearMemory = field(default_factory=LinearMemory)


def known_of(state: Path, experiment: str) -> Known:
    """Read an experiment's shared network and settings below a state root; nothing where they cannot be used."""
    folder = folder_of(state, experiment)
    try:
        checkpoint = load_checkpoint(folder)
        if checkpoint is None or not checkpoint.weights:
            return Known()
        cortex = CortexConfig.model_validate(checkpoint.settings["cortex"])
        # In single precision and uncompiled, so that gradients are those that another attacker would compute.
        cortex = cortex.model_copy(update={"precision": "float32", "compile": False, "weights": ""})
        memory = TypeAdapter(MemoryConfig).validate_python(checkpoint.settings["memory"])
        network = Cortex.of(load_network(folder, checkpoint), cortex).eval()
    except (BrainclError, KeyError, ValidationError, RuntimeError):
        return Known()
    return Known(network, memory if isinstance(memory, LinearMemory) else LinearMemory())


@dataclass
class SharedAttack:
    """Attacks on one hospital's scans by whoever has the shared network, or saw its update.

    Attributes:
        network: whose classifier's rows are class numbers.
        pairs: the hospital's memories by task, with their scans.
        strangers: scans that were never learned, if there are any.
        missing: what could not be measured, and why; grows.
    """

    network: Cortex
    pairs: Mapping[str, Pairs]
    strangers: Scans | None
    seed: int
    missing: list[str]

    def __post_init__(self) -> None:
        rows = self.network.classifier.out_features
        self.learned = {name: held for name, held in self.pairs.items() if held.labels.max() < rows}

    def membership(self, until: float) -> Iterator[Found]:
        """LiRA with shadows that are smaller than the network: an attacker with its like may do better."""
        pools = []
        for name, held in self.learned.items():
            try:
                pools.append(Pool.of(name, held, strangers_of(held, self.strangers), self.seed))
            except ValueError as error:
                self.missing.append(f"membership of {name} in the shared network: {error}")
        if not pools:
            return
        pool = Pool.join(pools)
        images, labels = pool.scans.images, pool.scans.labels
        found, inside = network_shadows(images, labels, seed_for(self.seed, "network"), until, MOST)
        if len(inside) < FEWEST:
            self.missing.append(f"membership in the shared network: {len(inside)} shadows took all of the time")
            return
        scores = lira(confidence(self.network, images, labels), found, inside, online=False)
        told = Membership(scores, pool.members, labels).as_json()
        yield {"of": SHARED, "shadows": len(inside), **told}

    def updates(self) -> Iterator[Found]:
        """What gradients of the classifier tell of the hospital's scans, by size of batch."""
        chosen = self._sample(UPDATES)
        device = self.network.device
        labels = torch.from_numpy(chosen.labels).to(device)
        with torch.no_grad():
            features = self.network.features(scans_to_tensor(chosen.images).to(device))
        for batch in BATCHES:
            cuts = [slice(i, i + batch) for i in range(0, len(chosen) - batch + 1, batch)]
            told = [gradients(self.network.classifier, features[cut], labels[cut]) for cut in cuts]
            if told:
                updates = [(w.detach().double().cpu().numpy(), b.detach().double().cpu().numpy()) for w, b in told]
                mine = [features[cut].double().cpu().numpy() for cut in cuts]
                yield judged(batch, updates, mine, [chosen.labels[cut] for cut in cuts]).as_json()

    def inversions(self, until: float) -> Iterator[Found]:
        """One scan rebuilt from the whole network's gradients, by each attack as far as it comes in its time."""
        chosen = self._sample(1)
        if not len(chosen):
            return
        network, scan = self.network.cpu(), scans_to_tensor(chosen.images)[0]
        observed = gradients(network, scan[None], torch.from_numpy(chosen.labels))
        told = read(*(g.detach().double().numpy() for g in observed[-2:]))
        label = int(chosen.labels[0]) if told is None else told.label
        left = until - time.monotonic()
        for number, attack in enumerate(ATTACKS, 1):
            ends = until - left * (1 - number / len(ATTACKS))
            made = invert(network, observed, label, (3, *chosen.images.shape[1:3]), ends, attack)
            yield {"attack": attack, **made.judged(scan)}

    def _sample(self, most: int) -> Scans:
        """Scans of classes that the network knows, drawn by the seed."""
        if not self.learned:
            return Scans.none(1)
        known = Scans.join(map(members_of, self.learned.values()))
        rng = np.random.default_rng(seed_for(self.seed, "updates"))
        return known.take(rng.permutation(len(known))[:most])
