"""Flower's ClientApp: turns a message into a call of the hospital, and its report into the reply."""

import logging
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from pydantic import TypeAdapter, ValidationError

from braincl_med.federation.held import held, hold
from braincl_med.federation.hospital import Hospital, keys_of, require_own
from braincl_med.federation.masks import IDENTITY, Masks
from braincl_med.federation.seen import FOLDER
from braincl_med.foundation.errors import BrainclError, ConfigError, VaultError
from braincl_med.foundation.logs import show_on_stderr
from braincl_med.foundation.version import require_tested_flower
from braincl_med.messages.compact import Coded, coded, digest_of
from braincl_med.messages.order import Order
from braincl_med.messages.report import HospitalName, Report
from braincl_med.messages.tensors import in_one_piece
from braincl_med.messages.wire import TENSORS, opened, told
from braincl_med.methods import METHODS, phases_of
from braincl_med.methods.phase import EXAMINED, FIGURES, NOTHING
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import load_experiment
from braincl_med.streams.place import NOTES, Place
from braincl_med.streams.source import ScanSource
from braincl_med.vault.keys import Keys
from braincl_med.vault.vault import Vault

app = ClientApp()

OWN = {
    "site", "vault-dir", "data-dir", "network-dir", "vault-key", "network-key", "privacy-epsilon",
    "masking-identities", "identity-key",
}  # fmt: skip
"""What a hospital's own node may say, and a simulated one never does."""


def hospital_of(context: Context) -> Hospital:
    """The hospital that this node is, in the experiment that its run configuration names.

    From the node's configuration: `partition-id` says which share of the stream it holds; `site` names it (default
    `site-<partition-id>`); `vault-dir` and `data-dir` are absolute folders (default: below the run's state root, and
    the run's data root); own scans in a `data-dir` are this hospital's alone; `vault-key`, `network-key` and
    `network-dir` seal its vault; `privacy-epsilon` is what it allows where that is less than the run's;
    `masking-identities` pins the hospitals of masked sums, and `identity-key` is this one's own (default: made below
    `vault-dir`).

    Raises:
        ConfigError: the node has no partition-id, one beyond the experiment's hospitals, or a name that is none; a
            key cannot be used, or the run names one.
    """
    overrides = dict(context.run_config)
    config = load_experiment(str(overrides.pop("config")), overrides)
    node = context.node_config
    if "partition-id" not in node:
        raise ConfigError("this node has no partition-id: start the SuperNode with --node-config 'partition-id=0 …'")
    partition = int(node["partition-id"]) if str(node["partition-id"]).isdecimal() else -1
    if not 0 <= partition < config.federation.hospitals:
        raise ConfigError(
            f"this node has partition-id {str(node['partition-id'])[:20]}, "
            f"the experiment has {config.federation.hospitals} hospitals "
            "(0 to one less): set federation-hospitals to the number of nodes"
        )
    name = _checked(str(node.get("site", f"site-{partition}")))
    vault = _absolute(node, "vault-dir") or config.state_folder / name
    own = _absolute(node, "data-dir")
    place = Place(own or config.data_folder, name, alone=own is not None, notes=vault / NOTES)
    source = ScanSource(config.stream, place, config.seed, partition, config.federation.hospitals)
    allowance = _allowance(node)
    if allowance is not None and config.privacy.mode == "off":
        raise ConfigError(
            "this node allows releases under differential privacy alone (privacy-epsilon), and the run has "
            "privacy-mode off: set it to statistics or updates"
        )
    held = Vault(vault / config.name, _keys(node, config, name))
    return Hospital(name, config, source, held, allowance, _masks(node, config, vault))


def _allowance(node: Mapping[str, object]) -> float | None:
    """The ε that this node allows in all, None where it leaves that to the experiment.

    Raises:
        ConfigError: it is no number above zero.
    """
    if "privacy-epsilon" not in node:
        return None
    try:
        allowed = float(str(node["privacy-epsilon"]))
    except ValueError:
        allowed = math.nan
    if not (math.isfinite(allowed) and allowed > 0):
        raise ConfigError(
            f"this node's privacy-epsilon is {str(node['privacy-epsilon'])[:20]!r}, expected a number above 0"
        )
    return allowed


def _masks(node: Mapping[str, object], config: ExperimentConfig, vault: Path) -> Masks | None:
    """What this hospital needs for masked sums; None where there are none.

    Raises:
        ConfigError: the run masks nothing and this hospital pins identities, or the other way round.
    """
    folder = vault / FOLDER
    identity = _absolute(node, "identity-key") or folder / IDENTITY
    identities = _absolute(node, "masking-identities")
    if not config.federation.masked:
        if identities is not None:
            raise ConfigError(
                "this hospital takes part in masked sums alone (masking-identities), and the run says "
                "federation-masking off"
            )
        return None
    if identities is None and not _simulated(node):
        raise ConfigError(
            "the run says federation-masking on, and this node pins no identities of hospitals: start the SuperNode "
            "with --node-config 'masking-identities=\"/…\" …' (docs/masking.md)"
        )
    return Masks(folder, identity, identities)


def _simulated(node: Mapping[str, object]) -> bool:
    """Whether it is a node of Flower's simulation, which tells each how many there are; it has nothing of its own."""
    return "num-partitions" in node and not OWN & node.keys()


def _keys(node: Mapping[str, object], config: ExperimentConfig, name: str) -> Keys:
    """The keys of this hospital's vault: a simulated one's are the run's, any other's its node's own.

    Raises:
        ConfigError: the run names a key to a hospital that is not simulated, or as `keys_of`.
    """
    if _simulated(node):
        return keys_of(config, name, config.vault_key, config.network_key)
    if config.vault_key or config.network_key:
        # A server must not say what a hospital reads as a key, nor which command it runs for one.
        raise ConfigError(
            "the run's configuration names vault-key or network-key, which a hospital takes from its own node alone: "
            "leave them out of the run, and start the SuperNode with --node-config 'vault-key=\"file:/…\" …'"
        )
    vault_key, network_key = (str(node.get(key, "")) for key in ("vault-key", "network-key"))
    return keys_of(config, name, vault_key, network_key, _absolute(node, "network-dir"))


def handle(message: Message, context: Context) -> Message:
    """Carry out the order in `message`; the reply holds a report and the weights that changed, never a traceback."""
    show_on_stderr()
    order, holds, stepped = None, "", False
    try:
        require_tested_flower()
        hospital = hospital_of(context)
        show_on_stderr(hospital.name)
        folder = hospital.vault.folder.parent / FOLDER / hospital.config.name
        came = opened(message.content, "order", partial(held, folder))
        order = Order.parse(came.text, came.weights)
        require_own(order, hospital.config)
        report = hospital.answer(order)
        if order.weights and not report.failure and not _simulated(context.node_config):
            # One machine's hospitals would gain nothing from what need not be sent.
            holds, stepped = _held_now(folder, order), hospital.config.federation.update_bits == 8
    except BrainclError as error:
        report = Report("", failure=str(error))
    except Exception as error:
        logging.getLogger("braincl").exception("an order could not be read")
        report = Report("", failure=f"the order could not be read ({type(error).__name__}); see the local log")
    base = order.weights if order and holds and report.weights else {}
    return reply_with(report, message, coded(report.weights, base, stepped), holds)


def _held_now(folder: Path, order: Order) -> str:
    """Hold the network of an order that was carried out; its digest, empty where the disk does not take it.

    One that was refused never comes in the place of a good one, nor on the disk.
    """
    try:
        hold(folder, order.weights)
    except VaultError as error:
        logging.getLogger("braincl").warning("the network will be sent again: %s", error)
        return ""
    return digest_of(order.weights)


def reply_with(report: Report, message: Message, answer: Coded | None = None, holds: str = "") -> Message:
    """Flower's reply to `message` that carries a report, its tensors as they are or as `answer` has them coded.

    Args:
        report: the report.
        message: that it answers.
        answer: its tensors.
        holds: digest of the network that this hospital holds; empty for none.
    """
    answer = answer or coded(report.weights, {}, stepped=False)
    said = ConfigRecord(dict(told(report.text(), answer, holds)))
    tensors = ArrayRecord(in_one_piece(answer.tensors, Array))
    return Message(RecordDict({TENSORS: tensors, "report": said}), reply_to=message)


def _absolute(node: Mapping[str, object], key: str) -> Path | None:
    """The folder that the node's configuration names, None where it names none.

    Raises:
        ConfigError: it is not absolute: it would lie wherever the SuperNode was started.
    """
    if key not in node:
        return None
    folder = Path(str(node[key]))
    if not folder.is_absolute():
        raise ConfigError(f"this node's {key} is no absolute folder: give one that begins with '/'")
    return folder


def _checked(name: str) -> str:
    """A hospital's name, if it is one that the server takes and that may be a folder's.

    Raises:
        ConfigError: it is not.
    """
    try:
        return TypeAdapter(HospitalName).validate_python(name)
    except ValidationError:
        raise ConfigError(
            f"this node's name (site) is {name[:70]!r}: use at most 63 letters, digits, spaces and . , ' ( ) & - _, "
            "beginning with a letter or digit"
        ) from None


def register() -> None:
    """Answer to every phase of every method: what changes the shared network is Flower's train, all else query."""
    for phase in {phase.name: phase for method in METHODS.values() for phase in phases_of(method)}.values():
        if phase.answer is FIGURES:
            app.evaluate()(handle)
        else:
            kind = app.query if phase.answer in (NOTHING, EXAMINED) else app.train
            kind(phase.name)(handle)


register()
