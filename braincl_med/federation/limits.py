"""How much one hospital may say: scans that it said it encoded, or that the settings let it have.

An update weighs as much as its samples, and an evaluation counts as much as its scans, so whoever could claim any
number would own the mean.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from braincl_med.dp.gaussian import multiplier_for
from braincl_med.dp.statistics import SENSITIVITY, STATISTICS
from braincl_med.evaluation.examination import ARTEFACTS
from braincl_med.evaluation.rejection import KNOWN, UNKNOWN
from braincl_med.messages.order import Order
from braincl_med.messages.report import MOST_SAMPLES, Report
from braincl_med.methods.phase import EXAMINED, FIGURES, NOTHING, Need, Phase
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.privacy import PrivacyConfig
from braincl_med.streams.catalogue import classes_of
from braincl_med.streams.named import unknown_sets
from braincl_med.streams.tasks import Registry

DEVIATIONS = 6
"""Of noise that a number of scans may lie above the scans; more has a probability of 10^-9."""
HELD_OUT = ("validation", "evaluated")
"""Sources of known scans of which a hospital has no more than the limit of evaluation."""


@dataclass(frozen=True)
class Limits:
    """What the settings let a hospital have and do.

    Attributes:
        train: training scans of a class, at any time so far.
        test: test scans of a class, and as many validation scans.
        unknown: scans of sets that no task learns.
        privacy: how its numbers are noisy.
        farthest: how many times the network's size an update may lie from it.
    """

    train: int = MOST_SAMPLES
    test: int = MOST_SAMPLES
    unknown: int = MOST_SAMPLES
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    farthest: float = math.inf

    @staticmethod
    def of(config: ExperimentConfig, most_per_class: int, registry: Registry) -> "Limits":
        """Those of an experiment over `registry` whose limit of training scans a class has been `most_per_class`.

        Raises:
            ConfigError: as `unknown_sets`.
        """
        test = config.stream.test_per_class
        unknown = sum(test * len(classes_of(name)) for name in unknown_sets(config.stream, registry))
        return Limits(most_per_class, test, unknown, config.privacy, config.farthest)

    def objection(self, answer: Report, order: Order, phase: Phase, encoded: Mapping[int, int]) -> str | None:
        """Why an answer speaks of more scans than its hospital can have, or None.

        Args:
            answer: whose figures are well-formed.
            order: that it answers.
            phase: of the order.
            encoded: by task, what the hospital said it encoded.
        """
        if phase.answer is FIGURES:
            return self._of_evaluation(answer, order, encoded)
        if phase.answer is EXAMINED:
            return self._of_examination(answer, order)
        if phase.answer is NOTHING:
            # Who encodes anew, after its memory was lost, may have more scans by now.
            kept = {} if phase.need is Need.NOTHING else encoded
            most = self._trainable(order, range(order.task, order.task + 1), kept)
        elif self.privacy.mode == "updates":
            most = 1.0
        else:
            most = self._trainable(order, range(order.task + 1), encoded)
        if answer.examples > most:
            return f"it claims {answer.examples:,} samples, and can have {math.floor(most):,}"
        classes = answer.figures.get("classes")
        if classes and sum(classes) != answer.examples:
            return f"it claims {answer.examples:,} samples, and counts {sum(classes):,} by class"
        # Each scan's features are cut to length 1, so sums over scans have no coordinate above their number.
        sums = [float(answer.weights[name].abs().max()) for name in answer.weights if name.startswith(STATISTICS)]
        if (size := answer.examples * max(sums, default=0.0)) > most:
            return f"its statistics are those of {size:,.0f} scans, and it can have {math.floor(most):,}"
        return None

    def _trainable(self, order: Order, tasks: range, encoded: Mapping[int, int]) -> float:
        """Training scans that a hospital can have of some tasks."""
        counts = {task: encoded.get(task, self.train * len(order.registry.tasks[task].classes)) for task in tasks}
        noise = 0.0
        if self.privacy.mode == "statistics":
            multiplier = multiplier_for(self.privacy.release_epsilon, self.privacy.delta)
            noise = DEVIATIONS * multiplier * SENSITIVITY * math.sqrt(order.registry.seen(order.task))
        return sum(counts.values()) + noise

    def _of_evaluation(self, answer: Report, order: Order, encoded: Mapping[int, int]) -> str | None:
        told = answer.figures
        rows = [sum(row) for row in told["confusion"]]
        noise = 0.0
        if self.privacy.mode != "off":
            # A count of patients with scans of several tasks has the noise of as many releases.
            multiplier = multiplier_for(self.privacy.figures_epsilon, self.privacy.delta)
            noise = DEVIATIONS * multiplier * math.sqrt(len(rows) * (order.task + 1))
        if (most := max(rows, default=0)) > self.test + noise:
            return f"it counts {most:,} scans of a class, and can have {math.floor(self.test + noise):,} to evaluate"
        if answer.examples != max(0, sum(rows)):
            return f"it claims {answer.examples:,} scans, and counts {sum(rows):,}"
        for kind, groups in told.get("scores", {}).items():
            for names, scans in self._scored(answer, order):
                if (scored := sum(sum(groups.get(name, ())) for name in names)) > scans:
                    return f"it scores {scored:,} scans by '{kind}' as {' or '.join(names)}, and can have {scans:,}"
        for known in told.get("known", ()):
            held_out, counts = known["source"] in HELD_OUT, known["classes"]
            if held_out and max(counts, default=0) > self.test:
                return f"it tells of {max(counts):,} known scans of a class, and can have {self.test:,}"
            if not held_out and sum(counts) > (most := self._trainable(order, range(order.task + 1), encoded)):
                return f"it tells of {sum(counts):,} samples as known scans, and can have {math.floor(most):,}"
        return None

    def _of_examination(self, answer: Report, order: Order) -> str | None:
        told, classes = answer.figures, order.registry.seen(order.task)
        answered = sum(told["confidence"]["right"]) + sum(told["confidence"]["wrong"])
        most = self.test * classes
        if answered != answer.examples or answered > most:
            return f"it claims {answer.examples:,} scans, tells of {answered:,}, and can have {most:,}"
        groups = (*self._scored(answer, order), *(((name,), most) for name in ARTEFACTS))
        for kind, rows in told["scores"].items():
            for names, scans in groups:
                if (scored := sum(sum(rows.get(name, ())) for name in names)) > scans:
                    return f"it scores {scored:,} scans by '{kind}' as {' or '.join(names)}, and can have {scans:,}"
        for name, rough in told.get("conditions", {}).items():
            if (scans := max(rough["scans"], default=0)) > self.test:
                return f"it tells of {scans:,} scans of a class under '{name}', and can have {self.test:,}"
        if (told.get("spectrum") or {"scans": 0})["scans"] > answered:
            return "its spectrum is of more scans than it answered"
        return None

    def _scored(self, answer: Report, order: Order) -> tuple[tuple[tuple[str, ...], int], ...]:
        """Groups of scans that a score is told of, and how many there can be."""
        later = order.registry.tasks[order.task + 1 :]
        near = self.test * sum(len(task.classes) for task in later)
        return (KNOWN, answer.examples), (UNKNOWN[:1], near), (UNKNOWN[1:], self.unknown)
