"""The one place through which what a hospital learned from its scans leaves it."""

from dataclasses import replace

import torch

from braincl_med.foundation.errors import FederationError
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report, told_loss
from braincl_med.messages.update import objection
from braincl_med.methods.phase import Phase, Site


def publish(site: Site, phase: Phase, order: Order, report: Report) -> Report:
    """The report as it may be sent: with the tensors that the phase answers with, finite and of the shapes that came.

    Raises:
        FederationError: it holds other tensors, or numbers that are not finite, as after a training that diverged.
    """
    expected = phase.answer.tensors(site.method.trainable(order.weights)) if report.examples else {}
    if (expected or report.weights) and (reason := objection(report.weights, expected)):
        raise FederationError(
            f"what {phase.name} learned cannot be sent: {reason}; if training diverged, lower its learning rate"
        )
    return replace(report, loss=told_loss(report.loss), threads=torch.get_num_threads())
