"""A run's report: what the dashboard's pages say of it, as one page to print and to file.

Every figure comes from the functions that the pages use.
"""

import json
from collections.abc import Iterator, Mapping
from math import isnan
from typing import Any

import numpy as np

from braincl_med.evaluation.continual import class_accuracies
from braincl_med.evaluation.diagnosis import Share, share_of
from braincl_med.evaluation.tally import Tally
from braincl_med.evaluation.verdict import Limits, verdict
from braincl_med.foundation.page import Block, Page, Points, Table
from braincl_med.foundation.version import program_version
from braincl_med.records.examined import examined
from braincl_med.records.examined_table import in_words as examination_in_words
from braincl_med.records.known import known_diagnoses, smallest_group
from braincl_med.records.schema import TOGETHER, Experiment
from braincl_med.records.standing import standing_of
from braincl_med.records.store import RunStore
from braincl_med.records.summary import Summary, summarise
from braincl_med.records.table import duration, percent, points, size

NOT_A_DEVICE = (
    "Research software, not a medical device. All figures are counts of test scans that hospitals told, with the "
    "interval that holds the true share in 95 of 100 cases (Wilson)."
)
DECODES = (
    "A cue decodes, together with its completion network, to an image that resembles the scan: a vault must be "
    "protected like the scans it stands for."
)
PASSED = (
    "Passed means that nothing but memories lies in these vaults. It does not mean that the memories are anonymous: "
    "see how often a recall was matched to its scan."
)
MOST_TAKEN = 3
"""Of what a diagnosis is taken for, so many others are named."""


def report(store: RunStore, name: str, limits: Limits) -> Page:
    """The report of an experiment, judged by a hospital's limits.

    Raises:
        RecordsError: the store has no such experiment, or cannot be read.
    """
    experiment, tally = store.experiment(name), store.tally(name)
    summary = summarise(store, name, tally)
    sections: list[tuple[str, tuple[Block, ...]]] = [
        ("Can I use it?", tuple(_verdict(experiment, summary, tally, limits))),
        ("Diagnoses, the weakest first", (_diagnoses(experiment, summary, tally),)),
        ("As further diagnoses were added", (_history(experiment, summary, tally),)),
        ("How sure is it? Poor and unknown scans", tuple(_examination(store, name))),
        ("Hospitals", tuple(_hospitals(experiment, summary, tally))),
        ("Privacy", tuple(_privacy(store, summary))),
        ("The run", tuple(_run(store, experiment, summary))),
        ("Settings", (Table(("Key", "Value"), tuple(_flat(experiment.config))),)),
    ]
    return Page(f"Report of {name}", tuple(sections))


def _verdict(experiment: Experiment, summary: Summary, tally: Tally, limits: Limits) -> Iterator[Block]:
    if summary.synthetic:
        yield "SYNTHETIC PHANTOM SCANS, NOT MEDICAL DATA: these figures say nothing about patients or diagnoses."
    yield NOT_A_DEVICE
    rows, tasks = known_diagnoses(experiment, tally), [task.name for task in summary.tasks]
    found = verdict(rows, {row.number: row.name for row in summary.classes}, tasks, limits)
    yield found.sentence
    if limits.asked:
        yield "Asked: " + ", ".join(f"{key} {value:g}" for key, value in limits.asked.items()) + "."
    if found.not_judged:
        yield f"Not judged, for want of a limit: {'; '.join(found.not_judged)}."


def _diagnoses(experiment: Experiment, summary: Summary, tally: Tally) -> Table:
    names = {row.number: row.name for row in summary.classes}
    rows = [
        (
            names[row.number],
            _share(row.found),
            percent(row.first),
            _share(row.right),
            _share(row.false_alarms),
            ", ".join(f"{names[other]} ({count:,})" for other, count in row.taken_for[:MOST_TAKEN]) or "-",
        )
        for row in known_diagnoses(experiment, tally)
    ]
    head = ("Diagnosis", "Found", "When learned", "Right when called", "Others called so", "Taken for")
    return Table(head, tuple(rows))


def _history(experiment: Experiment, summary: Summary, tally: Tally) -> Table:
    accuracies = class_accuracies(tally, smallest_group(experiment))
    after = [f"{number + 1} · {task.name}" for number, task in enumerate(summary.tasks[: summary.evaluated])]
    rows = [("all known", *(percent(value) for value in summary.after_each))]
    for row in summary.classes:
        if not isnan(row.now):
            rows.append((row.name, *(percent(float(value)) for value in accuracies[:, row.number])))
    return Table(("Found after learning", *after), tuple(rows))


def _examination(store: RunStore, name: str) -> Iterator[Block]:
    found = examined(store, name)
    if found is None:
        yield f"Not measured: `braincl evaluate {name}` does."
        return
    yield Points(tuple(line.strip() for line in examination_in_words(found).splitlines()))


def _hospitals(experiment: Experiment, summary: Summary, tally: Tally) -> Iterator[Block]:
    if tally.hospitals == (TOGETHER,):
        yield "Hospitals told their sum under masks, so nobody knows what was right at which."
    elif tally.tasks:
        right, scans, smallest = tally.correct[-1].sum(1), tally.scans[-1].sum(1), smallest_group(experiment)
        shares = [share_of(int(part), int(whole), smallest) for part, whole in zip(right, scans, strict=True)]
        rows = tuple((name, _share(share)) for name, share in zip(tally.hospitals, shares, strict=True))
        yield Table(("Hospital", "Recognised of its own test scans"), rows)
        if summary.fairness and np.count_nonzero(scans >= smallest) > 1:
            fair = summary.fairness
            yield (
                f"Best minus worst hospital: {points(fair.hospital_spread)}; chance alone explains up to "
                f"{points(fair.hospital_chance)}."
            )
    if summary.missing:
        told = tuple((m.task, m.phase, str(m.round + 1), m.hospital, m.reason) for m in summary.missing)
        yield Table(("Group", "Phase", "Round", "Absent", "Why"), told)


def _privacy(store: RunStore, summary: Summary) -> Iterator[Block]:
    yield DECODES
    latest = store.last_audit()
    vaults = (latest.report.get("vaults") or []) if latest else []
    own = [vault for vault in vaults if summary.name in (vault.get("experiments") or [])]
    if latest is None or not own:
        yield "No audit of this experiment's vaults is recorded last: `braincl audit` makes one."
    else:
        yield Table(("Vault", f"Audit of {latest.made}"), tuple(_audited(vault) for vault in own))
        yield PASSED
    spent = "no ε bounds what weights tell" if summary.epsilon is None else f"ε = {summary.epsilon:.2f} at most"
    yield f"Differential privacy: {spent}."


def _audited(vault: Mapping[str, Any]) -> tuple[str, str]:
    failed = [str(check.get("check", "")) for check in vault.get("checks") or [] if not check.get("passed")]
    matched = (vault.get("fidelity") or {}).get("re-identified")
    told = f"failed: {', '.join(failed)}" if failed or not vault.get("passed") else "passed every check"
    told += "" if matched is None else f"; {percent(matched)} of recalls matched to their scan"
    return str(vault.get("vault", "")), told


def _run(store: RunStore, experiment: Experiment, summary: Summary) -> Iterator[Block]:
    # Times and no ages: the same store gives the same bytes.
    standing = standing_of(store, summary.name)
    ended = f"{standing.status}: {standing.message}" if standing.message else standing.status
    versions = ", ".join(f"{package} {version}" for package, version in experiment.versions.items())
    rows = (
        ("Method", summary.method),
        ("Scans", summary.data),
        ("Seed", str(summary.seed)),
        ("Status", ended),
        ("Last step", standing.place or "none yet"),
        ("Hospitals in the last step done", f"{len(standing.present)} of {standing.hospitals}"),
        ("Begun, last sign of life", f"{summary.started}, {standing.last_sign}"),
        (
            "Accuracy now; mean over the groups' ends",
            f"{percent(summary.last_accuracy)}; {percent(summary.average_accuracy)}",
        ),
        ("Kept on disk", "all raw scans" if summary.keeps_raw_scans else size(summary.bytes_at_rest)),
        ("Sent over the network", size(summary.bytes_on_wire)),
        ("Time", duration(summary.seconds)),
        ("Made with", versions),
        ("Machine of the server", experiment.machine),
        ("This report", f"BrainCL-Med {program_version()}"),
    )
    yield Table(("", ""), rows)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}-")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _share(share: Share) -> str:
    if share.withheld:
        return "withheld: too few scans"
    if not share.whole:
        return "-"
    low, high = share.interval
    return f"{percent(share.value)} ({percent(low, 0)} to {percent(high, 0)}; {share.part:,} of {share.whole:,})"
