"""All attacks on one hospital's memories of an experiment, within a time, as a part of an audit's report:

attacks ─┬─ experiment
├─ thief         how, psnr, matched, interval, scans, chance              one a way to decode stolen cues
├─ membership    of, shadows, auc, interval, found, classes, …            one a thing that was learned
├─ update        batch, updates, median-error, exact, labels              one a size of batch
├─ inversion     attack, psnr, flat, distance, steps, seconds             of the shared network
├─ not-measured  sentences
├─ worst         task, class, ordinal, psnr                               stays at the hospital
└─ minutes       the time that was given
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from braincl_med.foundation.seeding import seed_for
from braincl_med.memory.module import fit
from braincl_med.privacy.attacks.membership import Membership, lira
from braincl_med.privacy.attacks.shadows import FEWEST, MOST, memory_shadows, nearest_recall, rebuilt
from braincl_med.privacy.attacks.thief import (
    Borrowed,
    Decoding,
    decode_borrowed,
    decode_by_both,
    decode_by_moments,
    decode_by_pairs,
    refusal,
)
from braincl_med.privacy.fidelity import Pairs, paired, psnr
from braincl_med.privacy.pool import FEWEST as FEWEST_SCANS
from braincl_med.privacy.pool import Pool, strangers_of
from braincl_med.privacy.shared import NOT_AT_HAND, Known, SharedAttack
from braincl_med.streams.tasks import Scans
from braincl_med.vault.cuefile import CueFile

OWN = "their own completion network"
KNOWN_PAIRS = (10, 50)
WORST = 5
MEMORIES, NETWORK = 0.65, 0.85
"""Parts of the time by which attacks on memories end, and such on membership in the shared network."""
Found = dict[str, Any]


@dataclass
class Attacks:
    """What one hospital's memories of an experiment give away.

    Attributes:
        memories: the hospital's cue files by task name, sound ones.
        scans: the hospital's raw training scans.
        minutes: for all attacks together; what is begun is finished.
        strangers: scans of the same classes that were never learned, if there are any.
        others: another hospital's cue files by task name.
        known: of the experiment.
        seed: of samples, shadows and starts.
    """

    memories: Mapping[str, CueFile]
    scans: Scans
    minutes: float
    strangers: Scans | None = None
    others: Mapping[str, CueFile] = field(default_factory=dict)
    known: Known = field(default_factory=Known)
    seed: int = 0

    def report(self, experiment: str) -> Found:
        """All that can be measured, and with the reason what cannot."""
        begun, self.missing = time.monotonic(), list[str]()
        pairs = {name: paired(file, self.scans) for name, file in self.memories.items() if file.records}
        decodings = [made for name, held in pairs.items() for made in self._thief(name, held)]
        ways = dict.fromkeys(d.how for d in decodings)
        report: Found = {
            "experiment": experiment,
            "thief": [Decoding.join([d for d in decodings if d.how == how]).as_json() for how in ways],
            "membership": list(self._membership(pairs, begun + 60 * self.minutes * MEMORIES)),
            "update": [],
            "inversion": [],
        }
        if self.known.network is None:
            self.missing.append(f"membership in the shared network, and what an update tells: {NOT_AT_HAND}")
        else:
            shared = SharedAttack(self.known.network, pairs, self.strangers, self.seed, self.missing)
            report["membership"] += shared.membership(begun + 60 * self.minutes * NETWORK)
            report["update"] = list(shared.updates())
            report["inversion"] = list(shared.inversions(begun + 60 * self.minutes))
        return {**report, "not-measured": self.missing, "worst": _worst(pairs), "minutes": self.minutes}

    def _thief(self, name: str, held: Pairs) -> Iterator[Decoding]:
        """Every way to decode a task's cues."""
        shape = self.memories[name].shape
        yield Decoding.of(OWN, held.recalls, held.originals, held.own)
        order = np.random.default_rng(seed_for(self.seed, "pairs", name)).permutation(len(held.own))
        few, others = order[: KNOWN_PAIRS[0]], order[KNOWN_PAIRS[0] :]
        for how, other in self._borrowed(name, held):
            reason = refusal(shape, other.network.shape)
            if reason:
                self.missing.append(f"cues of {name} under {how}: {reason}")
                continue
            yield Decoding.of(how, decode_borrowed(held.cues, shape, other), held.originals, held.own)
            made = decode_by_moments(held.cues, shape, other, seed_for(self.seed, "signs", name))
            # The thief sees which of the mirror images is right; here the likeness says so.
            tried = [Decoding.of(f"{how}, signs guessed", images, held.originals, held.own) for images in made]
            yield max(tried, key=lambda one: one.psnr)
            if len(others):
                of_both = decode_by_both(held.cues, held.originals[held.own[few]], few, shape, other)[others]
                ways = f"{how} and {len(few)} known pairs"
                yield Decoding.of(ways, of_both, held.originals, held.own[others])
        for count in KNOWN_PAIRS:
            known, rest = order[:count], order[count:]
            if not len(rest):
                self.missing.append(f"cues of {name} by {count} known pairs: it has {len(order)} records")
                continue
            made_of_pairs = decode_by_pairs(held.cues, held.originals[held.own[known]], known, shape)[rest]
            how = f"{count} known pairs of cue and scan"
            yield Decoding.of(how, made_of_pairs, held.originals, held.own[rest])

    def _borrowed(self, name: str, held: Pairs) -> Iterator[tuple[str, Borrowed]]:
        """Memories that a thief may have instead of the stolen cues' own network."""
        if name in self.others:
            theirs = self.others[name]
            cues = np.concatenate([theirs.cues(shard.label) for shard in theirs.header.shards])
            yield "another hospital's network", Borrowed(theirs.network(), cues)
        else:
            self.missing.append(f"cues of {name} under another hospital's network: no other vault was given with it")
        like = strangers_of(held, self.strangers)
        if len(like) >= FEWEST_SCANS and self.memories[name].shape.linear:
            module = fit(like.images, self.known.memory, seed_for(self.seed, "public", name), like.labels)
            cues = module.encode(like.images)
            yield "a network fitted to other scans of like kind", Borrowed(module.completion, cues)
        else:
            self.missing.append(
                f"cues of {name} under a network of other scans: {len(like)} scans of its kind were not learned"
            )

    def _membership(self, pairs: Mapping[str, Pairs], until: float) -> Iterator[Found]:
        """LiRA on the vault as a whole, and on its completion networks alone."""
        vaults, networks, shadows = [], [], []
        for number, (name, held) in enumerate(pairs.items()):
            file, started = self.memories[name], time.monotonic()
            ends = started + (until - started) / (len(pairs) - number)
            try:
                pool = Pool.of(name, held, strangers_of(held, self.strangers), self.seed)
                found = self._shadows(name, file, pool.scans, ends)
            except ValueError as error:
                self.missing.append(f"membership of {name} in the vault: {error}")
                continue
            of_networks, of_vaults, inside = found
            shadows.append(len(inside))
            images, labels = pool.scans.images, pool.scans.labels
            by_network = lira(rebuilt(file.network(), images), of_networks, inside)
            by_vault = lira(nearest_recall(held.recalls, images), of_vaults, inside)
            networks.append(Membership(by_network, pool.members, labels))
            vaults.append(Membership(by_vault, pool.members, labels))
        for what, parts in (("the vault", vaults), ("its completion networks alone", networks)):
            if parts:
                yield {"of": what, "shadows": min(shadows), **Membership.join(parts).as_json()}

    def _shadows(self, name: str, file: CueFile, scans: Scans, until: float) -> tuple[Any, Any, Any]:
        if not file.shape.linear:
            raise ValueError("shadows of the paper's recipe take too long")
        found = memory_shadows(scans.images, scans.labels, self.known.memory, seed_for(self.seed, name), until, MOST)
        if len(found[2]) < FEWEST:
            raise ValueError(f"{len(found[2])} shadows took all of the time, {FEWEST} are needed")
        return found


def _worst(pairs: Mapping[str, Pairs]) -> list[Found]:
    """The scans that their own network gives back best."""
    rows: list[Found] = []
    for name, held in pairs.items():
        likeness = psnr(held.recalls, held.originals[held.own])
        for place, ordinal, decibels in zip(held.own, held.ordinals, likeness, strict=True):
            label = int(held.labels[place])
            rows.append({"task": name, "class": label, "ordinal": int(ordinal), "psnr": float(decibels)})
    return sorted(rows, key=lambda row: -float(row["psnr"]))[:WORST]
