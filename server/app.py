"""Flower's ServerApp: turns the coordinator's orders into messages and replies into reports."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from braincl_med.federation.coordinator import Coordinator
from braincl_med.foundation.errors import BrainclError, FederationError
from braincl_med.foundation.files import sha256_of
from braincl_med.foundation.logs import keep_in_file, show_on_stderr
from braincl_med.foundation.processes import require_launcher
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.messages.shelf import Shelf
from braincl_med.messages.wire import opened
from braincl_med.methods import METHODS
from braincl_med.methods.phase import FIGURES, NOTHING, Phase
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import load_experiment

log = logging.getLogger("braincl")
POLL_SECONDS = 1.0
MOST_POLLS_A_SECOND = 20
"""So that asking for many hospitals' answers leaves the SuperLink time to take them."""
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
        """Send an order to every connected hospital, or those it has letters for; who answers too late has failed.

        Answers are fetched one by one, and their tensors put on disk, so that memory does not grow with hospitals.
        """
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
        nodes = [message.metadata.dst_node_id for message in messages]
        sent = {str(number) for number in self.grid.push_messages(messages) if number}
        # The grid numbers messages as it sends them. A killed SuperNode's error names the SuperLink as its source, so
        # only the message that it answers tells whose it is.
        asked = {
            message.metadata.message_id: message.metadata.dst_node_id
            for message in messages
            if message.metadata.message_id in sent
        }
        del messages, weights
        reports = self._answers(asked, time.monotonic() + timeout)
        keys = self._keys()
        late = "no answer in time"
        return [
            replace(reports.get(node, Report("", failure=late)), sender=str(node), key=keys.get(node, ""))
            for node in nodes
        ]

    def _answers(self, asked: Mapping[str, int], deadline: float) -> dict[int, Report]:
        """The answers to messages by node, as far as they come before the deadline.

        Args:
            asked: nodes by message.
            deadline: of the monotonic clock.
        """
        shelf, waiting, reports = Shelf.of(self.config), dict(asked), {}
        while waiting and time.monotonic() < deadline:
            for message, node in asked.items():
                if message in waiting and (report := self._pulled(message, shelf)) is not None:
                    reports[node] = report
                    del waiting[message]
            if waiting:
                time.sleep(max(POLL_SECONDS, len(waiting) / MOST_POLLS_A_SECOND))
        return reports

    def _pulled(self, message: str, shelf: Shelf) -> Report | None:
        """The answer to a message, None where there is none yet."""
        try:
            replies = list(self.grid.pull_messages([message]))
        except Exception as error:  # Flower builds its objects from bytes that a hospital sent
            log.debug("an answer could not be fetched", exc_info=True)
            return Report("", failure=f"its answer cannot be fetched ({type(error).__name__})")
        return _report(replies[0], shelf) if replies else None

    def _keys(self) -> dict[int, str]:
        """SHA-256 of the public keys of the nodes that an operator has registered by name.

        All others, in simulation and where nodes are not authenticated, draw a new key whenever they start.
        """
        nodes = self.grid.get_nodes()
        return {node.node_id: sha256_of(node.public_key) for node in nodes if node.name and node.public_key}


def _report(reply: Message, shelf: Shelf) -> Report:
    """A node's answer; whatever is wrong with it is a failure of that node alone.

    Raises:
        VaultError: the server's disk does not take it.
    """
    if reply.has_error():
        return Report("", failure=f"its client app did not answer (Flower error {reply.error.code})")
    try:
        text, tensors = opened(reply.content, "report")
        report = Report.parse(text, tensors)
    except BrainclError as error:
        return Report("", failure=str(error))
    except Exception as error:
        return Report("", failure=f"its answer cannot be read ({type(error).__name__})")
    return replace(report, weights=shelf.put(report.weights))
