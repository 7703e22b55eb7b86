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
from braincl_med.messages.order import PHASES_WITHOUT_UPDATE, Order, Report
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import load_experiment
from braincl_med.streams.named import build_registry

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
        overrides = dict(context.run_config)
        config = load_experiment(str(overrides.pop("config")), overrides)
        keep_in_file(config.state_folder, config.name)
        nodes = FlowerNodes(grid, config)
        Coordinator(config, build_registry(config.stream, config.seed), nodes.exchange).run()
    except BrainclError as error:
        reason = str(error)
    if reason:
        # Flower marks a run as failed only when the server app raises; the former traceback would help nobody.
        log.error("%s", reason)
        raise RuntimeError(reason)


def message_type(phase: str) -> str:
    """Flower's type of a phase's messages, which the client app registers alike."""
    if phase == "evaluate":
        return phase
    return f"query.{phase}" if phase in PHASES_WITHOUT_UPDATE else f"train.{phase}"


class FlowerNodes:
    """The connected hospitals as Flower sees them."""

    def __init__(self, grid: Grid, config: ExperimentConfig) -> None:
        self.grid = grid
        self.config = config
        self.names: dict[int, str] = {}
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
        """Send an order to every connected hospital; answers that come too late are dropped."""
        require_launcher()
        timeout = self.config.federation.round_timeout_seconds
        weights = ArrayRecord(dict(order.weights))
        messages = [
            Message(
                RecordDict({"weights": weights, "order": ConfigRecord({"json": order.text()})}),
                dst_node_id=node,
                message_type=message_type(order.phase),
                ttl=timeout,
            )
            for node in self.connected()
        ]
        replies = list(self.grid.send_and_receive(messages, timeout=timeout))
        # The grid numbers messages as it sends them. A killed SuperNode's error names the SuperLink as its source, so
        # only the message that it answers tells whose it is.
        asked = {message.metadata.message_id: message.metadata.dst_node_id for message in messages}
        return [self._report(asked[reply.metadata.reply_to_message_id], reply) for reply in replies]

    def _report(self, node: int, reply: Message) -> Report:
        name = self.names.get(node, f"node-{node}")
        if reply.has_error():
            return Report(name, failure=f"its client app did not answer (Flower error {reply.error.code})")
        try:
            weights = reply.content.array_records["weights"].to_torch_state_dict()
            report = Report.parse(str(reply.content.config_records["report"]["json"]), weights)
        except (KeyError, TypeError, ValueError) as error:
            return Report(name, failure=f"its answer cannot be read ({type(error).__name__})")
        if report.failure and report.hospital.startswith("node-"):
            return replace(report, hospital=name)  # it failed before it knew its own name
        self.names[node] = report.hospital
        return report
