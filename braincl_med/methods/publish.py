"""The one place through which what a hospital learned from its scans leaves it."""

from dataclasses import replace

import torch

from braincl_med.foundation.errors import FederationError
from braincl_med.messages.figures import objection_to_figures
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report, told_loss
from braincl_med.methods.phase import FIGURES, Phase, Site


def publish(site: Site, phase: Phase, order: Order, report: Report) -> Report:
    """The report as it may be sent: with the tensors that the phase answers with, finite and of the shapes that came,
    and figures of an allow-list.

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
    classes = order.registry.seen(order.task)
    if reason := objection_to_figures(report.figures, phase.answer is FIGURES, classes):
        raise FederationError(f"what {phase.name} counted cannot be sent: {reason}")
    return replace(report, loss=told_loss(report.loss), threads=torch.get_num_threads())
