"""Flower's ClientApp: turns a message into a call of the hospital, and its report into the reply."""

import logging
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from braincl_med.federation.hospital import Hospital
from braincl_med.foundation.errors import BrainclError, ConfigError
from braincl_med.foundation.logs import show_on_stderr
from braincl_med.messages.order import PHASES_WITHOUT_UPDATE, SHARED_PHASES, Order, Report
from braincl_med.methods import METHODS
from braincl_med.settings.loading import load_experiment
from braincl_med.streams.source import ScanSource
from braincl_med.vault.vault import Vault

app = ClientApp()


def hospital_of(context: Context, order: Order) -> Hospital:
    """The hospital that this node is, in the order's experiment.

    From the node's configuration: `partition-id` says which share of the stream it holds; `site` names it (default
    `site-<partition-id>`); `vault-dir` and `data-dir` are absolute folders (default: below the run's state root, and
    the run's data root).

    Raises:
        ConfigError: the node has no partition-id, or one beyond the experiment's hospitals.
    """
    overrides = dict(context.run_config)
    config = load_experiment(str(overrides.pop("config")), overrides)
    node = context.node_config
    if "partition-id" not in node:
        raise ConfigError("this node has no partition-id: start the SuperNode with --node-config 'partition-id=0 …'")
    partition = int(node["partition-id"])
    if partition >= config.federation.hospitals:
        raise ConfigError(
            f"this node has partition-id {partition}, the experiment has {config.federation.hospitals} hospitals "
            "(0 to one less): set federation-hospitals to the number of nodes"
        )
    name = str(node.get("site", f"site-{partition}"))
    vault = Path(str(node.get("vault-dir", config.state_folder / name)))
    data = Path(str(node["data-dir"])) if "data-dir" in node else config.data_folder
    source = ScanSource(config.stream, data, config.seed, partition, config.federation.hospitals)
    return Hospital(name, config, source, Vault(vault / order.experiment))


def handle(message: Message, context: Context) -> Message:
    """Carry out the order in `message`; the reply holds a report and the weights that changed, never a traceback."""
    show_on_stderr()
    node = f"node-{context.node_id}"
    try:
        weights = message.content.array_records["weights"].to_torch_state_dict()
        order = Order.parse(str(message.content.config_records["order"]["json"]), weights)
        report = hospital_of(context, order).answer(order)
    except BrainclError as error:
        report = Report(node, failure=str(error))
    except Exception as error:
        logging.getLogger("braincl").exception("an order could not be read")
        report = Report(node, failure=f"the order could not be read ({type(error).__name__}); see the local log")
    content = RecordDict(
        {"weights": ArrayRecord(dict(report.weights)), "report": ConfigRecord({"json": report.text()})}
    )
    return Message(content, reply_to=message)


def register() -> None:
    """Answer to every phase of every method: what changes the shared network is Flower's train, all else query."""
    for phase in {*SHARED_PHASES, *(phase for method in METHODS.values() for phase in method.phases)} - {"evaluate"}:
        kind = app.query if phase in PHASES_WITHOUT_UPDATE else app.train
        kind(phase)(handle)
    app.evaluate()(handle)


register()
