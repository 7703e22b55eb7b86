"""Flower's ServerApp: turns the coordinator's orders into messages and replies into reports."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from braincl_med.federation.coordinator import Coordinator
from braincl_med.foundation.errors import BrainclError, FederationError
from braincl_med.foundation.logs import keep_in_file, show_on_stderr
from braincl_med.foundation.processes import require_launcher
from braincl_med.foundation.version import require_tested_flower
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods import METHODS
from braincl_med.methods.phase import FIGURES, NOTHING, Phase
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import load_experiment
from server.errors import sentence_of
from server.tensors import tensors_of

log = logging.getLogger("braincl")
POLL_SECONDS = 1.0
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment that the run configuration names, from wherever it stands.

    Raises:
        RuntimeError: the experiment could not be finished; its message is the reason in one sentence.
    """
    show_on_stderr()
    reason = ""
    try:
        require_tested_flower()
        overrides = dict(context.run_config)
        config = load_experiment(str(overrides.pop("config")), overrides)
        keep_in_file(config.state_folder, config.name)
        nodes = FlowerNodes(grid, config)
        Coordinator(config, nodes.exchange).run()
    except BrainclError as error:
        reason = str(error)
    if reason:
        # Flower marks a run as failed only when the server app raises; the former traceback would help nobody.
        log.error("%s", reason)
        raise RuntimeError(reason)


def message_type(phase: Phase) -> str:
    """Flower's type of a phase's messages, which the client app registers alike."""
    if phase.answer is FIGURES:
        return phase.name
    return f"query.{phase.name}" if phase.answer is NOTHING else f"train.{phase.name}"


class FlowerNodes:
    """The connected hospitals as Flower sees them."""

    def __init__(self, grid: Grid, config: ExperimentConfig) -> None:
        self.grid = grid
        self.config = config
        self.phases = {phase.name: phase for phase in METHODS[config.method].phases}
        self.expected = config.federation.hospitals

    def connected(self) -> list[int]:
        """Node ids once the configured number is there, or what is there when the wait is over.

        A hospital that did not come in time is not waited for again, and takes part once it is back.

        Raises:
            FederationError: fewer than the quorum came.
        """
        federation = self.config.federation
        deadline = time.monotonic() + federation.wait_seconds
        while len(nodes := sorted(self.grid.get_node_ids())) < self.expected and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        self.expected = len(nodes)
        if len(nodes) < federation.least:
            raise FederationError(
                f"{len(nodes)} of {federation.hospitals} hospitals connected within {federation.wait_seconds:.0f} s, "
                f"the quorum is {federation.least}: start the others, or lower federation-quorum"
            )
        return nodes

    def exchange(self, order: Order) -> Sequence[Report]:
        """Send an order to every connected hospital, or those it has letters for; who answers too late has failed."""
        require_launcher()
        timeout = self.config.federation.round_timeout_seconds
        weights = ArrayRecord(dict(order.weights))
        messages = [
            Message(
                RecordDict({"weights": weights, "order": ConfigRecord({"json": order.addressed(str(node)).text()})}),
                dst_node_id=node,
                message_type=message_type(self.phases[order.phase]),
                ttl=timeout,
            )
            for node in self.connected()
            if not order.letters or str(node) in order.letters
        ]
        replies = list(self.grid.send_and_receive(messages, timeout=timeout))
        # The grid numbers messages as it sends them. A killed SuperNode's error names the SuperLink as its source, so
        # only the message that it answers tells whose it is.
        asked = {message.metadata.message_id: message.metadata.dst_node_id for message in messages}
        answered = {asked[reply.metadata.reply_to_message_id]: reply for reply in replies}
        return [_report(node, answered.get(node)) for node in asked.values()]


def _report(node: int, reply: Message | None) -> Report:
    """A node's answer; whatever is wrong with it is a failure of that node alone."""

    def failed(reason: str) -> Report:
        return Report("", failure=reason, sender=str(node))

    if reply is None:
        return failed("no answer in time")
    if reply.has_error():
        return failed(sentence_of(reply.error.code))
    try:
        text = str(reply.content.config_records["report"]["json"])
        return replace(Report.parse(text, tensors_of(reply.content.array_records["weights"])), sender=str(node))
    except BrainclError as error:
        return failed(str(error))
    except Exception as error:
        return failed(f"its answer cannot be read ({type(error).__name__})")
