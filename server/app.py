"""Flower's ServerApp: turns the coordinator's orders into messages and replies into reports."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import httpx
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from braincl_med.cortex.cortex import Weights
from braincl_med.federation.coordinator import Coordinator
from braincl_med.foundation.errors import BrainclError, FederationError
from braincl_med.foundation.files import sha256_of
from braincl_med.foundation.logs import keep_in_file, show_on_stderr
from braincl_med.foundation.processes import require_launcher
from braincl_med.foundation.version import require_tested_flower
from braincl_med.messages.compact import LACKING, digest_of, size_of_tensors
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.messages.shelf import Shelf
from braincl_med.messages.wire import TENSORS, opened, size_of_texts, told
from braincl_med.methods import METHODS, phases_of
from braincl_med.methods.phase import EXAMINED, FIGURES, NOTHING, Phase
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import load_experiment
from server.errors import sentence_of
from server.outbox import Outbox

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
    return f"query.{phase.name}" if phase.answer in (NOTHING, EXAMINED) else f"train.{phase.name}"


class FlowerNodes:
    """The connected hospitals as Flower sees them."""

    def __init__(self, grid: Grid, config: ExperimentConfig) -> None:
        self.grid = grid
        self.config = config
        self.phases = {phase.name: phase for phase in phases_of(METHODS[config.method])}
        self.expected = config.federation.hospitals
        self.outbox = Outbox(stepped=config.federation.update_bits == 8)

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
        nodes = [node for node in self.connected() if not order.letters or str(node) in order.letters]
        reports = self._asked(order, nodes)
        if lacking := [node for node in nodes if reports[node].failure == LACKING]:
            self.outbox.holds = {node: digest for node, digest in self.outbox.holds.items() if node not in lacking}
            reports |= self._asked(order, lacking)
        self.outbox.sent(order.weights)
        keys = self._keys()
        return [replace(reports[node], sender=str(node), key=keys.get(node, "")) for node in nodes]

    def _asked(self, order: Order, nodes: Sequence[int]) -> dict[int, Report]:
        """The answer of every node to an order, a failure where there is none."""
        timeout = self.config.federation.round_timeout_seconds
        packed = self.outbox.packed(order.weights, nodes)
        messages, down = [], {}
        for node in nodes:
            coded, weights = packed[node]
            said = told(order.addressed(str(node)).text(), coded)
            content = RecordDict({TENSORS: weights, "order": ConfigRecord(dict(said))})
            kind = message_type(self.phases[order.phase])
            messages.append(Message(content, dst_node_id=node, message_type=kind, ttl=timeout))
            down[node] = size_of_tensors(coded.tensors) + size_of_texts(said)
        sent = {str(number) for number in self.grid.push_messages(messages) if number}
        # The grid numbers messages as it sends them. A killed SuperNode's error names the SuperLink as its source, so
        # only the message that it answers tells whose it is.
        asked = {
            message.metadata.message_id: message.metadata.dst_node_id
            for message in messages
            if message.metadata.message_id in sent
        }
        del messages, packed
        reports = self._answers(order, asked, time.monotonic() + timeout)
        late = Report("", failure="no answer in time")
        return {node: replace(reports.get(node, late), bytes_down=down[node]) for node in nodes}

    def _answers(self, order: Order, asked: Mapping[str, int], deadline: float) -> dict[int, Report]:
        """The answers to messages by node, as far as they come before the deadline.

        Args:
            order: that the messages carry.
            asked: nodes by message.
            deadline: of the monotonic clock.
        """
        shelf, waiting, reports = Shelf.of(self.config), dict(asked), {}
        digest = digest_of(order.weights)

        def held(base: str) -> Weights | None:
            return order.weights if base == digest else None

        while waiting and time.monotonic() < deadline:
            for message, node in asked.items():
                if message in waiting and (reply := self._pulled(message)) is not None:
                    reports[node], self.outbox.holds[node] = _report(reply, shelf, held)
                    del waiting[message]
            if waiting:
                time.sleep(max(POLL_SECONDS, len(waiting) / MOST_POLLS_A_SECOND))
        return reports

    def _pulled(self, message: str) -> Message | Report | None:
        """The answer to a message, a failure where it cannot be had, None where there is none yet.

        A SuperLink that does not answer, or with an error of its own, is asked again until the round is over.
        """
        try:
            replies = list(self.grid.pull_messages([message]))
        except httpx.HTTPError as error:
            log.debug("the SuperLink does not give an answer (%s)", type(error).__name__)
            return None
        except Exception as error:  # Flower builds its objects from bytes that a hospital sent
            log.debug("an answer could not be fetched", exc_info=True)
            return Report("", failure=f"its answer cannot be fetched ({type(error).__name__})")
        return replies[0] if replies else None

    def _keys(self) -> dict[int, str]:
        """SHA-256 of the public keys of the nodes that an operator has registered by name.

        All others, in simulation and where nodes are not authenticated, draw a new key whenever they start.
        """
        nodes = self.grid.get_nodes()
        return {node.node_id: sha256_of(node.public_key) for node in nodes if node.name and node.public_key}


def _report(reply: Message | Report, shelf: Shelf, held: Callable[[str], Weights | None]) -> tuple[Report, str]:
    """A node's answer, and the digest of the network that it holds; whatever is wrong is that node's failure alone.

    Raises:
        VaultError: the server's disk does not take it.
    """
    if isinstance(reply, Report):
        return reply, ""
    if reply.has_error():
        return Report("", failure=sentence_of(reply.error.code)), ""
    try:
        came = opened(reply.content, "report", held)
        report = Report.parse(came.text, came.weights)
    except BrainclError as error:
        return Report("", failure=str(error)), ""
    except Exception as error:
        return Report("", failure=f"its answer cannot be read ({type(error).__name__})"), ""
    return replace(report, weights=shelf.put(report.weights), bytes_up=came.size), came.holds
