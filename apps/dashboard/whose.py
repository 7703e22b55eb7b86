"""A hospital's view: what others told becomes what all others told together, and their names are not shown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from braincl_med.evaluation.tally import Counts, Tally
from braincl_med.records.schema import TOGETHER
from braincl_med.records.summary import Summary

OTHERS = "all other hospitals"
Storage = tuple[tuple[int, str, str, int], ...]


def tally_of(tally: Tally, own: str) -> Tally:
    """The counts of `own`, where it has any, and of all others as one hospital."""
    if tally.hospitals == (TOGETHER,):
        return tally
    groups = [(name, [name == hospital for hospital in tally.hospitals]) for name in tally.hospitals if name == own]
    if any(hospital != own for hospital in tally.hospitals):
        groups.append((OTHERS, [hospital != own for hospital in tally.hospitals]))

    def together(counts: Counts, axis: int) -> Counts:
        parts = [counts.compress(members, axis).sum(axis) for _, members in groups]
        return np.stack(parts, axis) if parts else counts

    return Tally(
        tuple(name for name, _ in groups),
        together(tally.correct, 1),
        together(tally.scans, 1),
        together(tally.latest, 0),
    )


def summary_of(summary: Summary, own: str) -> Summary:
    """The figures, which are of all hospitals, with no name in them but `own`."""
    names = {row.hospital for row in summary.missing} | set(summary.hospitals) - {TOGETHER}
    missing = tuple(
        replace(row, hospital=shown(row.hospital, own), reason=without(names, own, row.reason))
        for row in summary.missing
    )
    hospitals = tuple(dict.fromkeys(shown(name, own) for name in sorted(summary.hospitals, key=lambda n: n != own)))
    return replace(summary, hospitals=hospitals, missing=missing, message=without(names, own, summary.message))


def storage_of(rows: Storage, own: str) -> Storage:
    """What lies on disk at `own` and at all others together, who keep what they told last."""
    told: dict[str, list[tuple[int, str, str, int]]] = {}
    found = [row for row in rows if row[1] in (own, TOGETHER)]
    for after in sorted({row[0] for row in rows if row[1] not in (own, TOGETHER)}):
        then = [row for row in rows if row[0] == after and row[1] not in (own, TOGETHER)]
        told |= {hospital: [row for row in then if row[1] == hospital] for hospital in {row[1] for row in then}}
        amounts: dict[str, int] = {}
        for _, _, item, amount in (row for kept in told.values() for row in kept):
            amounts[item] = amounts.get(item, 0) + amount
        found += [(after, OTHERS, item, amount) for item, amount in amounts.items()]
    return tuple(found)


def epsilons_of(rows: Sequence[tuple[int, str, float]], own: str) -> list[tuple[int, str, float]]:
    """The ε that `own` had spent after each group, and the most that any other had."""
    most: dict[tuple[int, str], float] = {}
    for task, hospital, epsilon in rows:
        at = task, shown(hospital, own)
        most[at] = max(epsilon, most.get(at, 0.0))
    return [(task, name, epsilon) for (task, name), epsilon in most.items()]


def vaults_of(vaults: Sequence[Mapping[str, Any]], own: str) -> list[dict[str, Any]]:
    """What an audit says of the vaults of `own`: what it found at others is theirs."""
    return [dict(vault) for vault in vaults if own in re.split(r"[/ ]", str(vault.get("vault", "")))]


def shown(hospital: str, own: str) -> str:
    """A hospital's name as this view has it."""
    return hospital if hospital in (own, TOGETHER) else OTHERS


def without(names: Iterable[str], own: str, text: str) -> str:
    """A sentence in which no other hospital is named."""
    others = sorted((name for name in names if name != own), key=len, reverse=True)
    named = "|".join(map(re.escape, others))
    return re.sub(rf"(?<![\w-])({named})(?![\w-])", "another hospital", text) if named else text
