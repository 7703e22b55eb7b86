"""The network after hospitals told sums of features: its classifier is solved from them, where others are averaged.

Beside it lies what later steps need: moments, for evaluation, and sums over tasks, for the tasks to come.
"""

from collections.abc import Callable, Sequence

from braincl_med.cortex.cortex import Weights
from braincl_med.cortex.gaussians import SECOND, SHARES, SUMS
from braincl_med.dp.shares import release_deviation
from braincl_med.dp.statistics import CLASS_SUMS, COUNTS, PRODUCTS, RIDGE, accumulated, added
from braincl_med.federation.aggregate import average
from braincl_med.federation.masked_step import HOLDERS
from braincl_med.messages.report import Report
from braincl_med.methods.phase import FEATURE_MOMENTS, TASK_MOMENTS, Answer
from braincl_med.methods.private import TOLD_STATISTICS
from braincl_med.phases.discriminant import discriminant
from braincl_med.phases.regression import regression
from braincl_med.settings.config import ExperimentConfig

Solver = Callable[[ExperimentConfig, Sequence[Report], Weights, Weights], Weights]
"""Of a configuration, answers with examples, the network that was sent, and the sums of the tasks before."""

PLACES = {SHARES: COUNTS, SUMS: CLASS_SUMS, SECOND: PRODUCTS}
"""Which statistic a moment is, times the number of samples."""


def solver_of(answer: Answer) -> Solver | None:
    """What is done with such answers; None where they are a network's own tensors, which are averaged."""
    if answer is FEATURE_MOMENTS:
        return _of_all_tasks
    if answer is TASK_MOMENTS:
        return _of_one_task
    return _released if answer is TOLD_STATISTICS else None


def _of_all_tasks(config: ExperimentConfig, reports: Sequence[Report], shared: Weights, former: Weights) -> Weights:
    told = average(reports, {})
    classifier = discriminant(told, shared) if config.sleep.classifier == "discriminant" else {}
    return {**shared, **classifier, **told}


def _of_one_task(config: ExperimentConfig, reports: Sequence[Report], shared: Weights, former: Weights) -> Weights:
    mean = average(reports, {})
    samples = sum(report.examples for report in reports)
    sums = added({PLACES[name]: tensor for name, tensor in mean.items()}, samples, former)
    total = sums[COUNTS].sum()
    moments = {name: sums[place] / total for name, place in PLACES.items()}
    told = moments if config.federation.familiarity == "shared" else {}
    return {**shared, **regression(moments, shared, config.analytic.ridge), **told, **sums}


def _released(config: ExperimentConfig, reports: Sequence[Report], shared: Weights, former: Weights) -> Weights:
    releases = sum(report.figures.get(HOLDERS, 1) for report in reports if report.examples)
    samples = sum(report.examples for report in reports)
    sums, moments = accumulated(average(reports, {}), samples, releases, former, release_deviation(config))
    return {**shared, **discriminant(moments, shared, RIDGE), **moments, **sums}
