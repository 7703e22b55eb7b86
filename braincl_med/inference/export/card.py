"""The model card: what a network is for, what was measured of it, and what was not, all of it from the run store."""

from collections.abc import Iterator, Mapping
from math import isnan
from pathlib import Path

import numpy as np

from braincl_med.evaluation.intervals import wilson
from braincl_med.evaluation.operating import OperatingPoint, Score
from braincl_med.evaluation.rejection import EDGES, UNKNOWN, answering
from braincl_med.evaluation.tally import Counts
from braincl_med.foundation.page import Block, Page, Points, Table
from braincl_med.inference.model import BY_CONFIDENCE, UNGAUGED, Model
from braincl_med.records.schema import Experiment
from braincl_med.records.store import RunStore
from braincl_med.records.summary import RejectionRow, Summary, summarise

NONE = "not measured"
SCORES = ("familiarity", "max-softmax", "energy", "certainty")
"""Of unknown scans, in this order."""


def card(state: Path, model: Model) -> Page:
    """The card of an experiment's network.

    Args:
        state: the state root, whose run store has what was measured.
        model: of the experiment.

    Raises:
        RecordsError: the run store has no such experiment, or cannot be read.
    """
    store = RunStore(state)
    experiment, summary = store.experiment(model.experiment), summarise(store, model.experiment)
    counts = _counts(store, model)
    sections: list[tuple[str, tuple[Block, ...]]] = [
        ("Intended use", _use(summary)),
        ("What it is", _identity(experiment, summary, model)),
        ("Classes", (_classes(summary, model, counts), CLASSES_NOTE)),
        ("Unknown scans", tuple(_unknown(store, summary, model))),
        ("Operating point", (_sentence(str(model.operating) if model.operating else UNGAUGED),)),
        ("Memory", _memory(summary)),
        ("Privacy", (Points(tuple(_privacy(experiment, model, summary.epsilon))),)),
        ("What was not measured", (Points(tuple(_unmeasured(store, summary, model, counts))),)),
    ]
    return Page(f"Model card: {model.experiment}", tuple(sections))


CLASSES_NOTE = (
    "Scans are those that hospitals evaluated, which the network was not trained on; accuracy is the share of them "
    "that are given this class, with Wilson's interval of 95 %. It counts every scan, also those that would be set "
    "aside."
)


def _counts(store: RunStore, model: Model) -> Counts:
    """(classes, classes) answers after the latest task of all hospitals, rows true; zeros where none were counted."""
    tally, size = store.tally(model.experiment), len(model.classes)
    if tally.tasks < len(model.registry.tasks):
        return np.zeros((size, size), np.int64)
    return tally.confusion[:size, :size]


def _use(summary: Summary) -> tuple[Block, ...]:
    synthetic = (
        ("It was trained on SYNTHETIC scans, drawn by formula: it knows nothing about medicine.",)
        if summary.synthetic
        else ()
    )
    return (
        "Research on federated continual learning. It is no medical device, is approved for nothing, and its answers "
        "are no diagnoses; a qualified person reads every scan.",
        *synthetic,
        "It answers with one of the classes below, whatever it is shown: scans of other diagnoses, body parts, "
        "devices or modalities are outside of its use, and those it sets aside are not all of these.",
    )


def _identity(experiment: Experiment, summary: Summary, model: Model) -> tuple[Block, ...]:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(experiment.versions.items()))
    hospitals = experiment.config.get("federation", {}).get("hospitals", NONE)
    missing = sorted({row.hospital for row in summary.missing})
    rows = (
        ("Experiment", f"{experiment.name}, seed {experiment.seed}"),
        ("Method", experiment.method),
        ("Network", f"{model.cortex.network}, {len(model.classes)} classes in {len(model.registry.tasks)} tasks"),
        ("Scans", f"RGB, {model.size} × {model.size} pixels; others are fitted ({model.fit})"),
        ("ONNX", "one scan at a time or more: a batch of none is an error"),
        ("Hospitals", f"{hospitals}, of which {len(summary.hospitals)} evaluated it"),
        ("Missing at times", ", ".join(missing) or "none"),
        ("Learned from", experiment.data),
        ("State", f"{experiment.status}, last changed {experiment.updated}"),
        ("Made with", versions),
    )
    return (Table(("", ""), rows),)


def _classes(summary: Summary, model: Model, counts: Counts) -> Table:
    rows = []
    for number, spec in enumerate(model.classes):
        scans, right = int(counts[number].sum()), int(counts[number, number])
        low, high = wilson(right, scans)
        accuracy = f"{_percent(right / scans)} ({_percent(low)} to {_percent(high)})" if scans else NONE
        first = summary.classes[number].first
        told = model.operating.counts[number] if model.operating else 0
        rows.append(
            (
                spec.name,
                spec.key,
                spec.code or "none",
                model.registry.tasks[model.registry.task_of(number)].name,
                f"{scans:,}",
                accuracy,
                NONE if isnan(first) else _percent(first),
                f"{told:,}",
            )
        )
    head = ("Class", "Key", "Code", "Task", "Scans", "Accuracy", "When learned", "Scans of the operating point")
    return Table(head, tuple(rows))


def _unknown(store: RunStore, summary: Summary, model: Model) -> Iterator[Block]:
    yield (
        "Scans that no class stands for, told apart by a score: near are diagnoses still to be learned at that time, "
        "far are other examinations. AUROC is the chance that a known scan scores higher; FPR is the share of "
        "unknown scans still answered where 95 % of known ones are. Far ones were scored after the last task; "
        "figures of near ones are means over the tasks after which there were some."
    )
    after = [row for row in summary.rejection if row.after_task == len(model.registry.tasks) - 1]
    ordered = sorted(after, key=lambda row: SCORES.index(row.score) if row.score in SCORES else len(SCORES))
    if ordered:
        yield Table(
            ("Score", "AUROC near", "AUROC far", "FPR near", "FPR far"),
            tuple(_rejection(row, summary) for row in ordered),
        )
    else:
        yield f"Unknown scans: {NONE}."
    if model.operating is not None:
        yield from _at_the_thresholds(store, model, model.operating)
    if model.operating is not None and model.operating.score != "familiarity":
        yield _sentence(BY_CONFIDENCE)


def _rejection(row: RejectionRow, summary: Summary) -> tuple[str, ...]:
    auroc_near, fpr_near = summary.mean_near(row.score)
    figures = (auroc_near, row.auroc_far, fpr_near, row.fpr95_far)
    return (row.score, *(NONE if isnan(figure) else _percent(figure) for figure in figures))


def _at_the_thresholds(store: RunStore, model: Model, operating: OperatingPoint) -> Iterator[str]:
    yield _at(store, model, operating.score, operating.threshold)
    if operating.sure is not None:
        yield _at(store, model, "max-softmax", operating.sure)
        yield "A scan is set aside by either; how many by both was not counted."


def _at(store: RunStore, model: Model, score: Score, threshold: float) -> str:
    groups: Mapping[str, Counts] = store.scores(model.experiment, len(model.registry.tasks) - 1).get(score, {})
    first = int(np.searchsorted(EDGES[score], threshold))
    found = answering(groups, first)
    kinds = {"near": found.near_rejected, "far": found.far_rejected}
    told = [
        f"{_percent(share)} of {int(groups[name].sum()):,} {kind} unknown scans"
        for (kind, share), name in zip(kinds.items(), UNKNOWN, strict=True)
        if name in groups and not isnan(share)
    ]
    if isnan(found.answered):
        return f"At the stored threshold: {NONE}."
    return (
        f"At the stored threshold of {score}, of the evaluated scans {_percent(1 - found.answered)} of "
        f"known ones{''.join(f' and {text}' for text in told)} are set aside; of the known ones that are answered "
        f"{_percent(found.accuracy)} are right."
    )


def _memory(summary: Summary) -> tuple[Block, ...]:
    if summary.bytes_at_rest is None:
        return (f"What hospitals keep: {NONE}.",)
    each = summary.bytes_per_sample
    rows = tuple((item, f"{amount:,}") for item, amount in sorted(summary.at_rest.items()))
    spent = f"{summary.records or 0:,} samples" + (f", {each:,.1f} bytes each, everything counted" if each else "")
    return (
        f"After the latest evaluation hospitals keep {summary.bytes_at_rest:,} bytes together: {spent}."
        + (" Beside that the method reads raw scans again." if summary.keeps_raw_scans else ""),
        Table(("Kept", "Bytes"), rows),
        "None of it is in this folder, and a vault is to be protected as scans are.",
    )


def _privacy(experiment: Experiment, model: Model, epsilon: float | None) -> Iterator[str]:
    config = experiment.config
    federation, sleep = config.get("federation", {}), config.get("sleep", {})
    yield "Hospitals sent network weights, counts, and figures summed over scans; no scan, no cue, no path."
    if sleep.get("classifier") == "discriminant" or federation.get("familiarity") == "shared":
        yield (
            "They also told the moments of their samples' features (sleep-classifier: "
            f"{sleep.get('classifier', 'trained')}, federation-familiarity: {federation.get('familiarity', 'own')}): "
            "of a class with one sample at a hospital, these are its features."
        )
    if model.familiarity is not None:
        yield "This folder holds the mean features of each class and one covariance, averaged over hospitals."
    else:
        yield "This folder holds weights alone, nothing of what hospitals remember."
    settings = config.get("privacy", {})
    if settings.get("mode", "off") != "off":
        spent = "not told" if epsilon is None else f"{epsilon:.2f}"
        yield (
            f"Differential privacy ({settings['mode']}): the hospital that told most had spent ε = {spent} at δ = "
            f"{settings['delta']:g}, over all that it ever released; the unit is a patient where patients are known, "
            "else a scan."
        )
    else:
        yield (
            "The experiment has no settings of differential privacy or secure aggregation: weights can carry "
            "information about the scans that they were trained on."
        )


def _unmeasured(store: RunStore, summary: Summary, model: Model, counts: Counts) -> Iterator[str]:
    without = [spec.name for spec, row in zip(model.classes, counts, strict=True) if not row.sum()]
    if without:
        yield f"Accuracy of {', '.join(without)}: no scan of these was evaluated."
    operating = model.operating
    if operating is None:
        yield "Calibration, and what a threshold would set aside."
    else:
        bare = [spec.name for spec, count in zip(model.classes, operating.counts, strict=True) if not count]
        if bare:
            yield f"Calibration for {', '.join(bare)}: no scan of these was among those that it was chosen by."
        if operating.source in ("recalls", "training", "mixed"):
            yield (
                "Calibration on scans alone that the network was not trained on: of new scans more than the stated "
                "share may be set aside."
            )
        elif operating.source == "evaluated":
            yield "Accuracy on scans that nothing was chosen by: validation scans were evaluated."
    last = [row for row in summary.rejection if row.after_task == len(model.registry.tasks) - 1]
    for kind, figures in (
        ("near unknown scans (diagnoses that it has not learned)", [row.auroc_near for row in last]),
        ("far unknown scans (other examinations)", [row.auroc_far for row in last]),
    ):
        if all(map(isnan, figures)):
            yield f"How it takes {kind} after its last task."
    if store.last_audit() is None:
        yield "What an attacker learns from vaults or weights: no audit is recorded beside this experiment."
    else:
        yield "What an attacker learns from the weights: audits look into vaults."
    yield f"How much of this is chance: it is one run, of seed {summary.seed}."
    yield "Accuracy at hospitals, devices and in years other than those it learned from."
    yield "Differences between patients of different age, sex, origin or disease: scans came without these."
    yield "Any effect on patients, and use by clinicians."


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
