"""Which numbers of an answer go into a masked sum, and the answer that the sum is.

    updates    n (w − w_sent) for every number w, n samples and, for classifier rows by class, n_c (w_c − w_c,sent)
    moments    n times each
    figures    every count of an evaluation as it is, for all kinds that there can be
    counters   that a maximum would join are left as they were sent

n is at most a power of two that the configuration gives, so server and hospitals know the head-room alike. Large
tensors of the network go by 32 bits, with steps of at most 4; all else goes by 64.
"""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from braincl_med.cortex.cortex import Weights
from braincl_med.cortex.gaussians import MOMENTS
from braincl_med.evaluation.operating import SCORES, SOURCES, TEMPERATURES, Score
from braincl_med.evaluation.rejection import EDGES, KNOWN, UNKNOWN
from braincl_med.federation.aggregate import ROWS
from braincl_med.foundation.errors import FederationError
from braincl_med.masking.ring import Bits, Field, Layout
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.base import Method
from braincl_med.methods.phase import FEATURE_MOMENTS, FIGURES, NOTHING, Phase
from braincl_med.records.schema import TOGETHER
from braincl_med.settings.config import ExperimentConfig

HOLDERS = "holders"
"""How many hospitals had any samples; of a sum of evaluations, known scans."""
COUNTS, BYTES, LOSSES = 27, 50, 27 + 7
"""Binary digits of what one hospital may count, keep, and lose over its known scans (69.08 each at most)."""
TRAINED = 20
"""Of a mean training loss, of a moment of one scan, and of a step of a small tensor."""
STEP = 2
"""Of a step of a large tensor."""
GROUPS = (*KNOWN, *UNKNOWN)
STORED = (
    "cues", "tables", "completion", "index", "records", "exemplars", "webp", "fisher", "generator", "teacher",
    "deviations", "backbones",
)  # fmt: skip
"""All that any method says it keeps."""
Numbers = npt.NDArray[np.float64]


def most_samples(order: Order, config: ExperimentConfig) -> int:
    """Binary digits of the samples that one hospital's update may weigh: its limit a class, times the classes.

    One digit more, for numbers of samples may hold noise (`dp.statistics`).
    """
    return (config.stream.train_per_class * order.registry.seen(order.task)).bit_length() + 1


def layout_of(order: Order, phase: Phase, method: Method, config: ExperimentConfig) -> Layout:
    """What an answer to `order` holds, known to whoever holds the order and the configuration."""
    classes, cap = order.registry.seen(order.task), most_samples(order, config)
    fields = [Field("examples", (), COUNTS, whole=True)]
    if phase.answer is FIGURES:
        fields += _evaluation(order, classes)
    elif phase.answer is not NOTHING:
        fields += [Field("losses", (), cap + TRAINED), Field("trained", (), cap, whole=True)]
        fields += [Field("weight", (), cap, whole=True), Field(HOLDERS, (), 1, whole=True)]
        trainable = method.trainable(order.weights)
        # Sorted: tensors that crossed the wire come in another order than they were sent in.
        for name, tensor in sorted(phase.answer.tensors(trainable).items()):
            if tensor.is_floating_point():
                large = tensor.ndim > 1 and name in order.weights and not name.startswith("classifier.")
                bits: Bits = 32 if large else 64
                magnitude = STEP if large else TRAINED
                fields.append(Field(f"weights.{name}", tuple(tensor.shape), cap + magnitude, bits))
        if _by_class(phase, method, config):
            fields.append(Field("classes", (classes,), cap, whole=True))
            fields += [
                Field(f"rows.{name}", tuple(order.weights[name].shape), cap + TRAINED)
                for name in ROWS
                if name in phase.answer.tensors(trainable)
            ]
    return Layout(tuple(fields), config.federation.hospitals)


def _by_class(phase: Phase, method: Method, config: ExperimentConfig) -> bool:
    by_class = config.federation.classifier_rows == "by-class" and method.facts.counts_classes
    return by_class and phase.answer is not FEATURE_MOMENTS


def _evaluation(order: Order, classes: int) -> Iterator[Field]:
    yield Field("confusion", (classes, classes), COUNTS, whole=True)
    for kind, group in product(EDGES, GROUPS):
        yield Field(f"scores.{kind}.{group}", (len(EDGES[kind]) - 1,), COUNTS, whole=True)
    for item in STORED:
        yield Field(f"storage.{item}", (), BYTES, whole=True)
    yield Field(HOLDERS, (), 1, whole=True)
    for score, source in product(_scores(order), SOURCES):
        yield Field(f"known.{score}.{source}.losses", (len(TEMPERATURES),), LOSSES)
        yield Field(f"known.{score}.{source}.histogram", (len(EDGES[score]) - 1,), COUNTS, whole=True)
        yield Field(f"known.{score}.{source}.classes", (classes,), COUNTS, whole=True)


def _scores(order: Order) -> tuple[Score, ...]:
    """The scores that are told of known scans, as in `methods.evaluate`."""
    return SCORES if any(name.startswith(MOMENTS) for name in order.weights) else ("max-softmax",)


def values_of(
    report: Report, order: Order, phase: Phase, method: Method, config: ExperimentConfig
) -> Iterator[tuple[str, Numbers]]:
    """One hospital's numbers by field of `layout_of`; what it has none of is left out, which is zero.

    Raises:
        FederationError: it keeps something that no layout has.
    """
    yield "examples", np.array(float(report.examples))
    if phase.answer is FIGURES:
        yield from _counted(report)
    elif phase.answer is not NOTHING and report.examples:
        # Beyond the limit, which own scans of a class keep to as well, an update weighs no more.
        weight = min(report.examples, (1 << most_samples(order, config)) - 1)
        yield "weight", np.array(float(weight))
        yield HOLDERS, np.array(1.0)
        if report.loss is not None:
            yield "losses", np.array(report.loss * weight)
            yield "trained", np.array(float(weight))
        classes = np.array(report.figures.get("classes", ()), np.float64)
        if told := _by_class(phase, method, config) and classes.size:
            yield "classes", classes
        for name, tensor in report.weights.items():
            if tensor.is_floating_point():
                moved = tensor.numpy() - order.weights[name].numpy() if name in order.weights else tensor.numpy()
                yield f"weights.{name}", np.multiply(moved, weight, dtype=np.float64)
                if told and name in ROWS:
                    yield f"rows.{name}", classes.reshape(-1, *[1] * (moved.ndim - 1)) * moved.astype(np.float64)


def _counted(report: Report) -> Iterator[tuple[str, Numbers]]:
    told = report.figures
    yield "confusion", np.array(told["confusion"], np.float64)
    for kind, groups in told["scores"].items():
        for group, counts in groups.items():
            yield f"scores.{kind}.{group}", np.array(counts, np.float64)
    for item, amount in told["storage"].items():
        if item not in STORED:
            raise FederationError(f"it keeps '{item}', of which no masked sum is made")
        yield f"storage.{item}", np.array(float(amount))
    yield HOLDERS, np.array(float(bool(told.get("known"))))
    for known in told.get("known", ()):
        for part in ("losses", "histogram", "classes"):
            yield f"known.{known['score']}.{known['source']}.{part}", np.array(known[part], np.float64)


def report_of(
    sums: Mapping[str, Numbers], order: Order, phase: Phase, method: Method, config: ExperimentConfig
) -> Report:
    """The answer that all hospitals gave together.

    Raises:
        FederationError: these are the sums of no answers.
    """
    examples = int(sums["examples"])
    if not 0 <= examples < config.federation.hospitals << COUNTS:
        raise FederationError(f"{order}: the masked numbers add up to nothing that hospitals answer")
    if phase.answer is FIGURES:
        # Of counts that hold noise any may be told, however small.
        smallest = config.federation.smallest_group if config.privacy.mode == "off" else None
        return Report(TOGETHER, examples, figures=_figures(sums, order, smallest))
    if phase.answer is NOTHING or sums["weight"] < 1:
        return Report(TOGETHER, examples if phase.answer is NOTHING else 0)
    loss = float(sums["losses"] / sums["trained"]) if sums["trained"] > 0 else None
    weights = {
        name.removeprefix("weights."): _moved(order.weights, name.removeprefix("weights."), total / sums["weight"])
        for name, total in sums.items()
        if name.startswith("weights.")
    }
    figures: dict[str, object] = {HOLDERS: int(sums[HOLDERS])}
    if "classes" in sums:
        figures["classes"] = sums["classes"].astype(int).tolist()
        for name in ROWS:
            if f"rows.{name}" in sums:
                counts = sums["classes"].reshape(-1, *[1] * (weights[name].ndim - 1))
                mine = _moved(order.weights, name, sums[f"rows.{name}"] / np.maximum(counts, 1))
                weights[name] = torch.where(torch.from_numpy(counts > 0), mine, weights[name])
    for name, tensor in phase.answer.tensors(method.trainable(order.weights)).items():
        if not tensor.is_floating_point():
            weights[name] = tensor  # it counts batches, which nobody reads
        elif name.endswith("running_var"):
            weights[name].clamp_(min=0)  # rounding may take a variance of nothing below it
    if reason := phase.answer.impossible(weights):
        raise FederationError(f"{order}: of the masked sum {reason}")
    return Report(TOGETHER, examples, loss, figures, weights)


def _moved(sent: Weights, name: str, step: Numbers) -> Tensor:
    """What was sent, moved by the mean of all steps; a moment, which nobody was sent, is that mean."""
    if name not in sent:
        return torch.from_numpy(step)
    return (sent[name].double() + torch.from_numpy(step)).to(sent[name].dtype)


def _figures(sums: Mapping[str, Numbers], order: Order, smallest: int | None) -> dict[str, object]:
    """An evaluation's figures, without what is counted of fewer than `smallest` scans; None tells of any."""
    confusion = sums["confusion"].astype(int)
    if smallest is None:
        return {"confusion": confusion.tolist(), "scores": {}, "storage": {}}
    confusion[confusion.sum(1) < smallest] = 0
    scores: dict[str, dict[str, list[int]]] = {}
    for kind, group in product(EDGES, GROUPS):
        counts = sums[f"scores.{kind}.{group}"].astype(int)
        if counts.sum() >= smallest:
            scores.setdefault(kind, {})[group] = counts.tolist()
    known = []
    for score, source in product(_scores(order), SOURCES):
        told = {part: sums[f"known.{score}.{source}.{part}"] for part in ("losses", "histogram", "classes")}
        if told["classes"].sum() >= smallest:
            classes = np.where(told["classes"] < smallest, 0, told["classes"]).astype(int)
            known.append(
                {
                    "source": source,
                    "score": score,
                    "losses": told["losses"].tolist(),
                    "histogram": told["histogram"].astype(int).tolist(),
                    "classes": classes.tolist(),
                }
            )
    storage = {item: int(sums[f"storage.{item}"]) for item in STORED}
    kept = {item: amount for item, amount in storage.items() if amount or item == "records"}
    return {
        "confusion": confusion.tolist(), "scores": scores, "storage": kept, "known": known,
        HOLDERS: int(sums[HOLDERS]),
    }  # fmt: skip
