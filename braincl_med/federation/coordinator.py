"""The server's side of an experiment: task → phase → round, one step at a time, checkpointed after each.

    begin ─► for each task: for each (phase, round) of the method:
               order ──exchange──► reports ─► objections, quorum ─► average ─► checkpoint ─► record

The exchange is a function, so the same loop runs over Flower's grid and over hospitals in one process.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

import numpy as np

from braincl_med.cortex.cortex import Weights, apart
from braincl_med.cortex.gaussians import MOMENTS, no_moments
from braincl_med.federation.aggregate import average, average_rows_by_class, objection, with_momentum
from braincl_med.federation.checkpoint import Checkpoint, folder_of, load_checkpoint, load_weights, save_checkpoint
from braincl_med.foundation.errors import BrainclError, ConfigError, FederationError
from braincl_med.foundation.files import locked
from braincl_med.foundation.seeding import seed_everything, seed_for
from braincl_med.messages.figures import objection_to_figures
from braincl_med.messages.order import PHASES_WITHOUT_UPDATE, Order, Report, size_of
from braincl_med.methods import METHODS
from braincl_med.phases.discriminant import discriminant
from braincl_med.records.schema import Step
from braincl_med.records.store import RunStore
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import changed_settings
from braincl_med.streams.describe import describe
from braincl_med.streams.tasks import Registry

log = logging.getLogger("braincl")

Exchange = Callable[[Order], Sequence[Report]]
"""Sends an order to every hospital and returns the answers that came in time."""

PHASES_WITHOUT_WEIGHTS = frozenset({"encode"})
VELOCITY = "velocity."
PACKAGES = ("braincl-med", "torch", "torchvision", "flwr", "constriction", "medmnist", "numpy")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide a result."""
    found = {"python": python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def starting_point(config: ExperimentConfig, registry: Registry) -> Checkpoint:
    """The checkpoint that a run of `config` goes on from, or a new one over `registry`.

    Raises:
        ConfigError: the experiment was begun with other settings, or was interrupted and `resume` is not set.
        VaultError: the checkpoint is damaged.
    """
    settings = config.as_result_settings()
    found = load_checkpoint(folder_of(config.state_folder, config.name))
    if found is None:
        return Checkpoint(experiment=config.name, settings=settings, registry=registry)
    changed = changed_settings(found.settings, config)
    if changed:
        raise ConfigError(
            f"experiment '{config.name}' was begun with other settings: {'; '.join(changed)}; "
            "use the former ones, another name, or start afresh"
        )
    if found.interrupted and not config.resume:
        task = found.registry.tasks[found.task].name
        raise ConfigError(
            f"experiment '{config.name}' was interrupted in task '{task}': set resume to continue it, or start afresh"
        )
    return found


def record_end(store: RunStore, experiment: str) -> None:
    """Say of an experiment whose checkpoint is finished that it is: a run may be killed between the two."""
    if experiment in store.experiments() and store.experiment(experiment).status != "finished":
        store.end(experiment, "finished")


@dataclass
class Coordinator:
    """Runs an experiment from wherever its checkpoint stands to its end.

    Attributes:
        config: the experiment.
        registry: its tasks, as the configuration's stream has them; a checkpoint's registry takes precedence.
        exchange: how orders reach hospitals.
    """

    config: ExperimentConfig
    registry: Registry
    exchange: Exchange

    def run(self) -> str:
        """Learn every task that is not learned yet.

        Returns:
            One sentence on what was done.

        Raises:
            BrainclError: the run cannot start, or a step fell below its quorum; what was done stays.
        """
        folder = folder_of(self.config.state_folder, self.config.name)
        with locked(folder, f"experiment '{self.config.name}'"):
            return self._run(folder)

    def _run(self, folder: Path) -> str:
        checkpoint = starting_point(self.config, self.registry)
        store = RunStore(self.config.state_folder, create=True)
        if checkpoint.finished:
            record_end(store, self.config.name)
            return f"nothing to learn: all {len(checkpoint.registry.tasks)} tasks of '{self.config.name}' are learned"
        if not checkpoint.weights:
            store.forget(self.config.name)  # of a run whose checkpoint is lost
        data = describe(checkpoint.registry, self.config.stream)
        log.info("'%s' learns from %s", self.config.name, data)
        store.begin(checkpoint.settings, checkpoint.registry, versions(), data)
        try:
            weights = load_weights(folder, checkpoint) if checkpoint.weights else {}
            while not checkpoint.finished:
                checkpoint, weights = self._step(checkpoint, weights, store)
        except BrainclError as error:
            store.end(self.config.name, "failed", str(error))
            raise
        except BaseException as error:
            store.end(self.config.name, "failed", f"stopped by {type(error).__name__}; resume continues it")
            raise
        store.end(self.config.name, "finished")
        return f"'{self.config.name}' has learned all {len(checkpoint.registry.tasks)} tasks"

    def _step(self, checkpoint: Checkpoint, weights: Weights, store: RunStore) -> tuple[Checkpoint, Weights]:
        """One exchange: order, check, average, checkpoint, record."""
        steps = METHODS[self.config.method].steps(self.config)
        phase, number = steps[checkpoint.position]
        first, changed = checkpoint.position == 0, phase not in PHASES_WITHOUT_UPDATE
        weights, velocity = apart(weights, VELOCITY)
        weights, told = apart(weights, MOMENTS)
        if first:
            weights = self._widened(checkpoint, weights)
        beside = told if phase == "evaluate" else {}
        sent = {} if phase in PHASES_WITHOUT_WEIGHTS else {**weights, **beside}
        order = Order(self.config.name, checkpoint.task, phase, number, checkpoint.registry, sent)
        begun = time.perf_counter()
        reports, missing = self._ask(order, checkpoint.hospitals)
        if changed:
            if not any(r.examples for r in reports):
                raise FederationError(f"{order}: no hospital has any example of it")
            weights = self._joined(phase, reports, weights, velocity if number else {})
        if phase == "evaluate":
            for report in reports:
                figures = report.figures
                confusion = np.array(figures["confusion"], np.int64)
                store.record_evaluation(
                    self.config.name,
                    checkpoint.task,
                    report.hospital,
                    confusion,
                    figures["scores"],
                    figures["storage"],
                )
        losses = [(r.loss, r.examples) for r in reports if r.loss is not None]
        examples = sum(r.examples for r in reports)
        step = Step(
            task=checkpoint.task,
            position=checkpoint.position,
            phase=phase,
            round=number,
            seconds=time.perf_counter() - begun,
            bytes_down=size_of(order) * (len(reports) + len(missing)),
            bytes_up=sum(size_of(r) for r in reports),
            loss=sum(x * n for x, n in losses) / sum(n for _, n in losses) if losses else None,
            examples=examples,
            hospitals=tuple(r.hospital for r in reports),
            missing=missing,
        )
        store.record_step(self.config.name, step)
        _log_step(order, step, reports)
        last = checkpoint.position + 1 == len(steps)
        checkpoint = checkpoint.model_copy(
            update={
                "task": checkpoint.task + last,
                "position": 0 if last else checkpoint.position + 1,
                "hospitals": tuple(sorted({*checkpoint.hospitals, *(r.hospital for r in reports)})),
            }
        )
        folder = folder_of(self.config.state_folder, self.config.name)
        # What lay beside the network is dropped as soon as no step needs it.
        rewritten = first or changed or velocity or told
        return save_checkpoint(folder, checkpoint, weights if rewritten else None), weights

    def _joined(self, phase: str, reports: Sequence[Report], weights: Weights, velocity: Weights) -> Weights:
        """The shared network after a round; beside it what later steps need: its velocity, or the moments told."""
        federation = self.config.federation
        if phase == "discriminate":
            told = average(reports, {})
            return {**weights, **discriminant(told, weights), **told}
        averaged = average(reports, weights)
        if federation.classifier_rows == "by-class":
            averaged = average_rows_by_class(reports, averaged)
        if not federation.server_momentum:
            return averaged
        former = {name.removeprefix(VELOCITY): tensor for name, tensor in velocity.items()}
        moved, velocity = with_momentum(weights, averaged, former, federation.server_momentum)
        return {**moved, **{VELOCITY + name: tensor for name, tensor in velocity.items()}}

    def _widened(self, checkpoint: Checkpoint, weights: Weights) -> Weights:
        """The network with a row for every class up to the new task; the first one from the experiment's seed."""
        seed_everything(seed_for(self.config.seed, "cortex", checkpoint.task))
        classes = checkpoint.registry.seen(checkpoint.task)
        return METHODS[self.config.method].grow(weights, self.config.cortex, classes)

    def _ask(self, order: Order, known: Sequence[str]) -> tuple[list[Report], dict[str, str]]:
        """The usable answers sorted by hospital, and for every missing hospital the reason.

        Raises:
            FederationError: fewer usable answers than the quorum, or two hospitals of one name.
        """
        answers = sorted(self.exchange(order), key=lambda r: r.hospital)
        names = [r.hospital for r in answers]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise FederationError(f"two hospitals answer as '{twice[0]}': give each its own name or partition-id")
        missing: dict[str, str] = {}
        usable = []
        for report in answers:
            reason = report.failure
            if not reason and order.phase not in PHASES_WITHOUT_UPDATE and report.examples:
                whole = order.phase == "discriminate"
                expected = no_moments(order.weights) if whole else order.weights
                reason = objection(report.weights, expected, whole) or ""
            if not reason:
                classes = order.registry.seen(order.task)
                reason = objection_to_figures(report.figures, order.phase, classes) or ""
            if reason:
                missing[report.hospital] = reason
            else:
                usable.append(report)
        # Tensors that most hospitals changed are the phase's; another choice cannot be averaged with them.
        choices = Counter(frozenset(r.weights) for r in usable if r.examples)
        if len(choices) > 1:
            odd = [r for r in usable if r.examples and frozenset(r.weights) != choices.most_common(1)[0][0]]
            missing |= {r.hospital: "it updated other tensors than most hospitals" for r in odd}
            usable = [r for r in usable if r not in odd]
        silent = [n for n in known if n not in names]
        unnamed = self.config.federation.hospitals - len(names) - len(silent)
        silent += [f"unnamed-{i + 1}" for i in range(max(0, unnamed))]
        missing |= {n: "no answer in time" for n in silent}
        for name, reason in missing.items():
            log.warning("%s: %s is missing: %s", order, name, reason)
        if len(usable) < self.config.federation.least:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(missing.items()))
            raise FederationError(
                f"{order}: {len(usable)} of {self.config.federation.hospitals} hospitals gave a usable answer, "
                f"the quorum is {self.config.federation.least} ({reasons})"
            )
        return usable, missing


def _log_step(order: Order, step: Step, reports: Sequence[Report]) -> None:
    loss = "" if step.loss is None else f", loss {step.loss:.3f}"
    accuracy = ""
    if order.phase == "evaluate":
        counts = [np.array(r.figures["confusion"]) for r in reports]
        accuracy = f", accuracy {sum(np.trace(c) for c in counts) / max(1, sum(c.sum() for c in counts)):.3f}"
    log.info("%s: %d samples%s%s, %.1f s", order, step.examples, loss, accuracy, step.seconds)
