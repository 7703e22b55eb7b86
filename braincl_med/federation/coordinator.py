"""The server's side of an experiment: task → phase → round, one step at a time, checkpointed after each.

    begin ─► for each task: for each (phase, round) of the method's schedule:
               order ──exchange──► answers ─► objections, quorum ─► join ─► checkpoint ─► record

The exchange is a function, so the same loop runs over Flower's grid and over hospitals in one process.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braincl_med.cortex.cortex import Weights, apart
from braincl_med.cortex.gaussians import MOMENTS
from braincl_med.cortex.quantised import quantised
from braincl_med.cortex.start import started
from braincl_med.dp.counts import settled
from braincl_med.dp.statistics import STATISTICS
from braincl_med.evaluation.operating import Known, OperatingPoint, join
from braincl_med.federation.aggregate import join_of, with_momentum
from braincl_med.federation.beginning import record_end, start_of, starting_point, versions
from braincl_med.federation.checkpoint import Checkpoint, folder_of, load_weights, save_checkpoint
from braincl_med.federation.examine import record_where_asked
from braincl_med.federation.exchange import Exchange, Hospitals, Outcome
from braincl_med.federation.limits import Limits
from braincl_med.federation.masked_server import MaskedHospitals
from braincl_med.federation.masked_step import HOLDERS
from braincl_med.federation.members import read_members, write_members
from braincl_med.federation.solved import solver_of
from braincl_med.federation.soundness import require_sound
from braincl_med.foundation.errors import BrainclError, FederationError
from braincl_med.foundation.files import locked
from braincl_med.foundation.seeding import seed_everything, seed_for
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods import METHODS
from braincl_med.methods.base import Method
from braincl_med.methods.phase import FIGURES, Need, Phase
from braincl_med.records.alive import heartbeat
from braincl_med.records.schema import TOGETHER, Status, Step
from braincl_med.records.store import RunStore
from braincl_med.settings.config import ExperimentConfig
from braincl_med.streams.describe import describe
from braincl_med.streams.tasks import Registry

log = logging.getLogger("braincl")

VELOCITY = "velocity."


@dataclass
class Coordinator:
    """Runs an experiment from wherever its checkpoint stands to its end.

    Attributes:
        config: the experiment.
        exchange: how orders reach hospitals.
    """

    config: ExperimentConfig
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

    @property
    def method(self) -> Method:
        """The experiment's method."""
        return METHODS[self.config.method]

    def _run(self, folder: Path) -> str:
        name, checkpoint = self.config.name, starting_point(self.config)
        store = RunStore(self.config.state_folder, create=True)
        if checkpoint.finished:
            record_end(store, name)
            if self.config.stream.examine != "never" and checkpoint.task - 1 not in store.examinations(name):
                record_where_asked(self.config, checkpoint, self._hospitals(folder, checkpoint), store)
            return f"nothing to learn: all {len(checkpoint.registry.tasks)} tasks of '{name}' are learned"
        if checkpoint.place == (0, 0):
            store.forget(name)  # of a run whose checkpoint is lost
        data = describe(checkpoint.registry, self.config.stream)
        log.info("'%s' learns from %s", name, data)
        if checkpoint.task and not checkpoint.weights:
            log.info("a new network, %s, learns from memory alone what was learned", self.config.cortex.network)
        store.begin(checkpoint.settings, checkpoint.registry, versions(), data)
        try:
            hospitals = self._hospitals(folder, checkpoint)
            weights = load_weights(folder, checkpoint) if checkpoint.weights else {}
            with heartbeat(folder) as heart:
                while not checkpoint.finished:
                    phase, number = self.method.schedule(self.config)[checkpoint.position]
                    heart.begins(*checkpoint.place, phase.name, number)
                    checkpoint, weights = self._step(checkpoint, weights, hospitals, store)
                    record_where_asked(self.config, checkpoint, hospitals, store)
        except BrainclError as error:
            store.end(name, "failed", str(error))
            raise
        except BaseException as error:
            # Whoever asks a process to end raises what is no Exception.
            status: Status = "failed" if isinstance(error, Exception) else "stopped"
            store.end(name, status, f"stopped by {type(error).__name__}; resume continues it")
            raise
        store.end(name, "finished")
        return f"'{name}' has learned all {len(checkpoint.registry.tasks)} tasks"

    def _hospitals(self, folder: Path, checkpoint: Checkpoint) -> Hospitals:
        """How hospitals are asked."""
        config = self.config
        members = read_members(folder).begun_with(config.stream.train_per_class, checkpoint.task + 1)
        limits = Limits.of(config, members.most_per_class, checkpoint.registry)
        if config.federation.masked:
            return MaskedHospitals(self.exchange, config.federation, members=members, limits=limits, config=config)
        return Hospitals(self.exchange, config.federation, members=members, limits=limits)

    def _step(
        self, checkpoint: Checkpoint, weights: Weights, hospitals: Hospitals, store: RunStore
    ) -> tuple[Checkpoint, Weights]:
        """One exchange: order, check, join, record, checkpoint."""
        schedule, first = self.method.schedule(self.config), checkpoint.position == 0
        phase, number = schedule[checkpoint.position]
        shared, velocity = apart(weights, VELOCITY)
        shared, told = apart(shared, MOMENTS)
        shared, sums = apart(shared, STATISTICS)
        if first or not shared:
            shared, start = self._widened(checkpoint, shared)
            checkpoint = checkpoint.model_copy(update={"start": start})
        sent = _sent(phase.need, shared, told)
        order = Order(self.config.name, checkpoint.task, phase.name, number, checkpoint.registry, sent)
        begun = time.perf_counter()
        outcome = self._asked(hospitals, order, phase, checkpoint)
        if first and not phase.answer.summed and not any(report.examples for report in outcome.usable):
            # Nothing is kept of it, so that the task can be removed, or its scans be added.
            raise FederationError(
                f"{order}: no hospital has a training scan of it: add some and run again, or take the task back "
                f"(`braincl tasks remove {self.config.name} {checkpoint.registry.tasks[checkpoint.task].name}`)"
            )
        if phase.answer.summed:
            former = sums if phase.answer.adds_up else velocity if number else {}
            shared = self._joined(order, phase, outcome.usable, shared, former)
        # Sums over all tasks so far stay beside the network for good.
        shared = {**sums, **shared}
        self._record(order, phase, outcome, checkpoint, time.perf_counter() - begun, store)
        last = checkpoint.position + 1 == len(schedule)
        checkpoint = checkpoint.model_copy(
            update={
                "task": checkpoint.task + last,
                "position": 0 if last else checkpoint.position + 1,
                "hospitals": tuple(sorted({*checkpoint.hospitals, *outcome.present})),
                "threads": _threads(checkpoint.threads, outcome.present),
            }
        )
        operating = _operating_point(outcome.usable, told) if phase.answer is FIGURES else None
        if first or phase.answer is FIGURES:
            checkpoint = checkpoint.model_copy(update={"operating": operating, "moments": "", "moments_sha256": ""})
        # What lay beside the network is dropped as soon as no step needs it; moments that its answers need stay.
        rewritten = first or phase.answer.summed or velocity or told
        kept = told if operating and operating.score == "familiarity" else None
        folder = folder_of(self.config.state_folder, self.config.name)
        return save_checkpoint(folder, checkpoint, shared if rewritten else None, kept), shared

    def _asked(self, hospitals: Hospitals, order: Order, phase: Phase, checkpoint: Checkpoint) -> Outcome:
        """Ask, and remember what hospitals said of themselves."""
        before = hospitals.members
        outcome = hospitals.ask(order, phase, self.method, checkpoint.hospitals)
        if phase.need is Need.NOTHING:
            hospitals.members = hospitals.members.encoding(order.task, outcome.usable)
        if hospitals.members != before:
            write_members(folder_of(self.config.state_folder, self.config.name), hospitals.members)
        return outcome

    def _joined(
        self, order: Order, phase: Phase, reports: Sequence[Report], shared: Weights, former: Weights
    ) -> Weights:
        """The shared network after a round; beside it what later steps need: velocity, moments, or statistics.

        Args:
            order, phase, reports: of the round.
            shared: the network that was sent out.
            former: the velocity of the rounds before, or the statistics of the tasks before.

        Raises:
            FederationError: no hospital has any example.
        """
        if not any(r.examples for r in reports):
            raise FederationError(f"{order}: no hospital has any example of it, or two to train on")
        if solver := solver_of(phase.answer):
            solved = solver(self.config, reports, shared, former)
            require_sound(order, solved)
            return solved
        joined, momentum = join_of(self.config.federation)(reports, shared), self.config.federation.server_momentum
        require_sound(order, joined)
        if not momentum:
            return self._rounded(order, joined, shared)
        before = {name.removeprefix(VELOCITY): tensor for name, tensor in former.items()}
        moved, now = with_momentum(shared, joined, before, momentum)
        require_sound(order, moved)
        moved = self._rounded(order, moved, shared)
        return {**moved, **{VELOCITY + name: tensor for name, tensor in now.items()}}

    def _rounded(self, order: Order, joined: Weights, shared: Weights) -> Weights:
        """The joined network, on the grid from the former one where steps go in 8 bits."""
        if self.config.federation.update_bits == 32:
            return joined
        return quantised(joined, shared, seed_for(self.config.seed, "rounding", order.task, order.phase, order.round))

    def _widened(self, checkpoint: Checkpoint, weights: Weights) -> tuple[Weights, str]:
        """The network with a row for every class up to the new task, and the digest of what its backbone began from.

        The first one is drawn by the experiment's seed, but for weights that the configuration names.
        """
        seed_everything(seed_for(self.config.seed, "cortex", checkpoint.task))
        grown = self.method.grow(weights, self.config.cortex, checkpoint.registry.seen(checkpoint.task))
        if weights:
            return grown, checkpoint.start
        start, digest = start_of(self.config)
        return (started(grown, start), digest) if start else (grown, "")

    def _record(
        self, order: Order, phase: Phase, outcome: Outcome, checkpoint: Checkpoint, seconds: float, store: RunStore
    ) -> None:
        """Keep what a step cost and counted, and say it."""
        reports = outcome.usable
        losses = [(r.loss, r.examples) for r in reports if r.loss is not None and r.examples]
        step = Step(
            task=order.task,
            position=checkpoint.position,
            phase=phase.name,
            round=order.round,
            seconds=seconds,
            bytes_down=outcome.bytes_down,
            bytes_up=outcome.bytes_up,
            loss=sum(x * n for x, n in losses) / sum(n for _, n in losses) if losses else None,
            examples=sum(r.examples for r in reports),
            hospitals=tuple(outcome.present),
            missing=dict(outcome.missing),
        )
        counted = ""
        if phase.answer is FIGURES:
            told = {report.hospital: report.figures for report in reports}
            counts = np.sum([figures["confusion"] for figures in told.values()], axis=0)
            if self.config.privacy.mode != "off":
                # What is below zero in one hospital's counts is above the truth in another's.
                counts = settled(counts)
                told = {TOGETHER: {"confusion": counts, "scores": {}, "storage": {}}}
            for name, figures in told.items():
                confusion = np.array(figures["confusion"], np.int64)
                store.record_evaluation(
                    self.config.name, order.task, name, confusion, figures["scores"], figures["storage"]
                )
            spent = {r.hospital: r.figures["epsilon"] for r in reports if r.figures.get("epsilon") is not None}
            store.record_epsilon(self.config.name, order.task, spent)
            counted = f", accuracy {np.trace(counts) / max(1, counts.sum()):.3f}"
        store.record_step(self.config.name, step)
        loss = "" if step.loss is None else f", loss {step.loss:.3f}"
        log.info("%s: %d samples%s%s, %.1f s", order, step.examples, loss, counted, seconds)
        if phase.answer is FIGURES:
            trained = self.config.sleep.classifier == "trained" and not self.config.facts.frozen
            solved = not trained or self.config.privacy.mode != "off"
            _say_what_is_not_recognised(checkpoint.registry, counts, solved)


def _say_what_is_not_recognised(registry: Registry, counts: npt.NDArray[np.int64], solved: bool) -> None:
    """Warn of every class that most of its scans are not taken for: a mean hides it.

    Args:
        registry: of the experiment.
        counts: (classes, classes) scans by true and predicted class.
        solved: the classifier is not one that solving it instead may help, or cannot be solved.
    """
    advice = "" if solved else (
        "; where only some hospitals have it, sleep-classifier=discriminant may help (docs/running.md)"
    )  # fmt: skip
    for spec, right, scans in zip(registry.classes, counts.diagonal(), counts.sum(axis=1), strict=False):
        if 2 * right < scans:
            log.warning(
                "'%s': %d of %d scans are recognised, do not use its answers%s", spec.name, right, scans, advice
            )


def _operating_point(reports: Sequence[Report], told: Weights) -> OperatingPoint | None:
    """How the evaluated network's logits become answers, by what hospitals added up over known scans.

    Familiarity is a score of the network alone only where the moments that it follows from lie beside it.
    """
    known = [[Known.told(figure) for figure in report.figures.get("known", [])] for report in reports]
    point = join(known, "familiarity" if told else "max-softmax")
    if point is not None:
        if HOLDERS in reports[0].figures:
            point = point.model_copy(update={"hospitals": max(1, reports[0].figures[HOLDERS])})
        log.info("%s", point)
        # Nobody sees whether scans exist, so whoever reads the log must see who decides.
        scans = {r.hospital: sum(int(k.classes.sum()) for k in one) for r, one in zip(reports, known, strict=True)}
        name, most = max(scans.items(), key=lambda item: item[1])
        if len(scans) > 2 and 2 * most > sum(scans.values()):
            log.warning(
                "%s tells of %d of %d known scans, so the operating point is mostly its own", name, most,
                sum(scans.values()),
            )  # fmt: skip
    return point


def _sent(need: Need, shared: Weights, told: Weights) -> Weights:
    """What goes out with an order; nothing that its phase does not need."""
    if need is Need.NOTHING:
        return {}
    return {**shared, **told} if need is Need.NETWORK_AND_MOMENTS else shared


def _threads(former: Mapping[str, int], present: Mapping[str, int]) -> dict[str, int]:
    """With how many threads every hospital computes; a change is said, since it changes the last bits of a result."""
    now = {name: threads for name, threads in present.items() if threads}
    for name, threads in now.items():
        if former.get(name, threads) != threads:
            log.warning(
                "%s computes with %d threads and did with %d: the result will not be, bit for bit, that of a run "
                "with as many throughout", name, threads, former[name],
            )  # fmt: skip
    return {**former, **now}
