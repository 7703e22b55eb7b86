"""The one place through which what a hospital learned from its scans leaves it."""

from dataclasses import replace
from typing import Any

import torch

from braincl_med.cortex.quantised import quantised
from braincl_med.foundation.errors import FederationError
from braincl_med.messages.figures import objection_to_examination, objection_to_figures
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report, told_loss
from braincl_med.methods.phase import EXAMINED, FIGURES, NOTHING, Phase, Site
from braincl_med.settings.privacy import Mode


def require_bounded(phase: Phase, mode: Mode) -> None:
    """Refuse to run, under differential privacy, what would tell numbers that no ledger bounds.

    Raises:
        FederationError: it would.
    """
    if mode != "off" and phase.answer is not NOTHING and mode not in phase.bounded:
        raise FederationError(
            f"{phase.name} tells what nothing bounds, and this hospital runs under privacy-mode '{mode}': leave it "
            "out of the schedule"
        )


def objection_of(figures: dict[str, Any], phase: Phase, classes: int, *, noisy: bool) -> str | None:
    """Why the figures of an answer may neither be sent nor used, or None; at both ends of the wire the same.

    Args:
        figures: of an answer to `phase`.
        phase: which says what kind they are of.
        classes: known so far.
        noisy: as `objection_to_figures`.
    """
    if phase.answer is EXAMINED:
        return objection_to_examination(figures, classes)
    return objection_to_figures(figures, phase.answer is FIGURES, classes, noisy=noisy)


def publish(site: Site, phase: Phase, order: Order, report: Report) -> Report:
    """The report as it may be sent: with the tensors that the phase answers with, finite and of the shapes that came,
    and figures of an allow-list.

    Under differential privacy it holds nothing beside them but the ε that is spent: no loss, no number of scans.

    Raises:
        FederationError: it holds other tensors or figures, or numbers that are not finite, as after a training that
            diverged.
    """
    learned = phase.answer.published and report.examples
    reason = phase.answer.objection(report.weights, site.method.trainable(order.weights)) if learned else None
    if reason or (report.weights and not learned):
        raise FederationError(
            f"what {phase.name} learned cannot be sent: {reason or 'it answers with no tensors'}; "
            "if training diverged, lower its learning rate"
        )
    noisy = site.config.privacy.mode != "off"
    if noisy:
        examples = report.examples if phase.bounded else 1
        figures = {**report.figures, "epsilon": site.ledger.epsilon()} if phase.bounded else report.figures
        report = replace(report, examples=examples, loss=None, figures=figures)
    classes = order.registry.seen(order.task)
    if reason := objection_of(report.figures, phase, classes, noisy=noisy):
        raise FederationError(f"what {phase.name} counted cannot be sent: {reason}")
    federation = site.config.federation
    if learned and phase.answer.summed and federation.update_bits == 8 and not federation.masked:
        report = replace(report, weights=quantised(report.weights, order.weights, site.seed(order)))
    return replace(report, loss=told_loss(report.loss), threads=torch.get_num_threads())
