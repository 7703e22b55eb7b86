"""Mutated orders and replies end in a refusal or a sound round: no exception leaves a door, and no vault changes.

Some hundred in the suite; `BRAINCL_FUZZ=10000` says how many of each.
"""

import hashlib
import os
import random

import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from braincl_med.cortex.cortex import Weights
from braincl_med.federation.aggregate import average
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, load_weights
from braincl_med.federation.exchange import Hospitals
from braincl_med.federation.held import held, hold
from braincl_med.federation.limits import Limits
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.federation.seen import FOLDER
from braincl_med.foundation.errors import FederationError
from braincl_med.foundation.texts import LONGEST
from braincl_med.messages.compact import coded, digest_of
from braincl_med.messages.order import Order
from braincl_med.messages.shelf import Shelf
from braincl_med.messages.tensors import in_one_piece
from braincl_med.messages.wire import told
from braincl_med.methods import METHODS
from client.app import handle
from server.app import _report, message_type
from tests.federation.experiments import tiny
from tests.server.mutations import mutated

HELD = dict[str, Weights]().get
COUNT = int(os.environ.get("BRAINCL_FUZZ", "100"))
pytestmark = pytest.mark.timeout(60 + COUNT)


@pytest.fixture(autouse=True)
def _identity(monkeypatch):
    """Flower's processes know which run and node they are; a test is both."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """An experiment that has learned all its tasks, and its last task's orders."""
    state = tmp_path_factory.mktemp("fuzz")
    config = tiny(state, stream_task_count=2, federation_hospitals=3, federation_quorum=2, sleep_rounds=1)
    run_locally(config)
    folder = folder_of(state, "tiny")
    checkpoint = load_checkpoint(folder)
    shared = load_weights(folder, checkpoint)
    orders = {
        phase: Order("tiny", 1, phase.name, number, checkpoint.registry, {} if phase.name == "encode" else shared)
        for phase, number in METHODS["braincl"].schedule(config)
    }
    return config, orders


def records(weights, name, text, base):
    """The records of a message, its network told from `base` where there is one."""
    one = coded(weights, base, stepped=True)
    said = told(text, one, digest_of(base))
    return RecordDict({"weights": ArrayRecord(in_one_piece(one.tensors, Array)), name: ConfigRecord(dict(said))})


def near(weights):
    """A network from which another's steps are on the grid, some tensors are the same, and some are neither."""
    return {
        name: tensor + 0.25 if len(tensor.shape) > 1 or name == "classifier.bias" else tensor
        for name, tensor in weights.items()
    }


def digest(folder):
    """Of every vault below a state root."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("site-*/tiny/**/*")):
        if path.is_file():
            found.update(f"{path.relative_to(folder)} ".encode() + path.read_bytes())
    return found.hexdigest()


def is_plain(reason, folder):
    """One printable line without traceback or path."""
    return (
        reason.isprintable()
        and len(reason) <= LONGEST
        and not any(word in reason for word in ("Traceback", str(folder)))
    )


def test_a_mutated_order_is_refused_or_carried_out_and_changes_no_vault(learned):
    config, orders = learned
    rng, before, refused = random.Random(1), digest(config.state_folder), 0
    contexts = [
        Context(
            run_id=1,
            node_id=1,
            node_config={"partition-id": 0, **node},
            state=RecordDict(),
            run_config={"config": config.model_dump_json(by_alias=True)},
        )
        for node in ({"num-partitions": 3}, {"site": "site-0", "vault-dir": str(config.state_folder / "site-0")})
    ]
    folder = config.state_folder / "site-0" / FOLDER / "tiny"
    for _ in range(COUNT):
        phase, order = rng.choice(list(orders.items()))
        base = near(order.weights) if rng.random() < 0.3 else {}
        if base:
            hold(folder, base)
        content = mutated(records(order.weights, "order", order.text(), base), "order", rng)
        reply = handle(Message(content, dst_node_id=1, message_type=message_type(phase)), contexts[bool(base)])
        sent = {digest_of(order.weights): order.weights}.get
        report = _report(reply, Shelf.of(config), sent)[0]
        refused += bool(report.failure)
        assert is_plain(report.failure, config.state_folder)
        assert "unexpected" not in report.failure
        assert "could not be read" not in report.failure
        assert not (base and report.failure and held(folder, digest_of(base)) is None), "a refused network was kept"
    assert digest(config.state_folder) == before
    assert COUNT / 2 < refused < COUNT


def test_a_mutated_reply_is_that_hospitals_refusal_or_part_of_a_sound_round(learned):
    config, orders = learned
    rng, refused = random.Random(2), 0
    exchange, method = local_exchange(local_hospitals(config)), METHODS["braincl"]
    answers = {phase: exchange(order) for phase, order in orders.items()}
    registry = next(iter(orders.values())).registry
    limits = Limits.of(config, config.stream.train_per_class, registry)
    for _ in range(COUNT):
        phase, order = rng.choice(list(orders.items()))
        *others, last = answers[phase]
        base = order.weights if last.weights and rng.random() < 0.3 else {}
        content = mutated(records(last.weights, "report", last.text(), base), "report", rng)
        known = {digest_of(base): base}.get
        odd = _report(Message(content, dst_node_id=1, message_type=message_type(phase)), Shelf.of(config), known)[0]
        hospitals = Hospitals(lambda _, odd=odd, others=others: [*others, odd], config.federation, limits=limits)
        outcome = hospitals.ask(order, phase, method, ())
        refused += bool(outcome.missing)
        assert {"site-0", "site-1"} <= outcome.present.keys()
        assert all(is_plain(reason, config.state_folder) for reason in outcome.missing.values())
        if phase.answer.summed:
            joined = average(outcome.usable, order.weights)
            assert all(bool(torch.isfinite(t).all()) for t in joined.values() if t.is_floating_point())
    assert COUNT / 2 < refused < COUNT


def test_whatever_else_may_come_up_in_an_answer_is_its_nodes_failure(learned, monkeypatch):
    def fails(*_):
        raise MemoryError

    config, orders = learned
    phase = next(iter(orders))
    monkeypatch.setattr("server.app.opened", fails)
    odd, holds = _report(
        Message(RecordDict(), dst_node_id=1, message_type=message_type(phase)), Shelf.of(config), HELD
    )
    assert (odd.failure, holds) == ("its answer cannot be read (MemoryError)", "")


def test_a_round_below_its_quorum_is_one_sentence(learned):
    config, orders = learned
    phase, order = next(iter(orders.items()))
    odd = _report(Message(RecordDict(), dst_node_id=1, message_type=message_type(phase)), Shelf.of(config), HELD)[0]
    with pytest.raises(FederationError, match="0 of 3 hospitals gave a usable answer"):
        Hospitals(lambda _: [odd], config.federation).ask(order, phase, METHODS["braincl"], ())
