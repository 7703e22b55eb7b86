"""Networks that hospitals of a deployment hold are not sent again, and the results are those of sending all."""

import dataclasses

import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from braincl_med.federation.checkpoint import folder_of, load_checkpoint
from braincl_med.federation.held import NAME, held, hold
from braincl_med.federation.local import run_locally
from braincl_med.federation.seen import FOLDER
from braincl_med.foundation.errors import VaultError
from braincl_med.messages.compact import LACKING, digest_of
from braincl_med.messages.order import Order
from braincl_med.messages.tensors import in_one_piece
from braincl_med.privacy.remembered import remembered
from braincl_med.records.store import RunStore
from braincl_med.streams.named import build_registry
from client.app import handle
from tests.federation.experiments import tiny
from tests.test_apps import InProcessGrid, serve


@pytest.fixture(autouse=True)
def _identity(monkeypatch):
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def nodes(config, root):
    """Two nodes with vaults of their own."""
    return {
        100 + n: Context(
            run_id=1,
            node_id=100 + n,
            node_config={"partition-id": n, "site": f"site-{n}", "vault-dir": str(root / f"site-{n}")},
            state=RecordDict(),
            run_config={"config": config.model_dump_json(by_alias=True)},
        )
        for n in range(2)
    }


def steps_without_bytes(state):
    return [dataclasses.replace(s, bytes_down=0, bytes_up=0, seconds=0) for s in RunStore(state).steps("tiny")]


@pytest.mark.parametrize("bits", ["32", "8"])
def test_less_goes_and_the_result_is_that_of_sending_all(tmp_path, bits):
    few = {"stream_task_count": 2 if bits == "32" else 1, "sleep_rounds": 1, "federation_update_bits": bits}
    config = tiny(tmp_path / "flower", **few)
    grid = InProcessGrid(nodes(config, tmp_path / "hospitals"))
    serve(grid, config)
    run_locally(tiny(tmp_path / "alone", **few))
    network = [load_checkpoint(folder_of(tmp_path / end, "tiny")).sha256 for end in ("flower", "alone")]
    assert network[0] == network[1]
    assert steps_without_bytes(tmp_path / "flower") == steps_without_bytes(tmp_path / "alone")
    down, up = ([sum(getattr(s, way) for s in RunStore(tmp_path / end).steps("tiny")) for end in ("flower", "alone")]
                for way in ("bytes_down", "bytes_up"))  # fmt: skip
    assert down[0] < 0.8 * down[1]
    assert (up[0] < 0.5 * up[1]) == (bits == "8")
    told = remembered(tmp_path / "hospitals" / "site-0" / FOLDER, str)
    assert (told.problems, told.own) == ((), 2), "an audit knows the network that is held"


def test_a_hospital_that_lost_the_network_is_sent_it_whole(tmp_path):
    few = {"stream_task_count": 1, "sleep_rounds": 2, "federation_update_bits": "8"}
    config = tiny(tmp_path / "flower", **few)
    grid = InProcessGrid(nodes(config, tmp_path / "hospitals"))
    place, original, lacking = tmp_path / "hospitals" / "site-1" / FOLDER / "tiny" / NAME, grid.send_and_receive, []

    def losing(messages, *, timeout=None):
        if messages[0].metadata.message_type.endswith("sleep"):
            place.unlink(missing_ok=True)
        replies = original(messages, timeout=timeout)
        lacking.extend(LACKING in str(reply.content["report"]["json"]) for reply in replies)
        return replies

    grid.send_and_receive = losing
    serve(grid, config)
    run_locally(tiny(tmp_path / "alone", **few))
    assert sum(lacking) == 2, "once in every round of sleep"
    assert steps_without_bytes(tmp_path / "flower") == steps_without_bytes(tmp_path / "alone")
    assert not any(step.missing for step in RunStore(tmp_path / "flower").steps("tiny"))


def test_a_refused_order_does_not_take_the_place_of_the_network_that_is_held(tmp_path):
    config = tiny(tmp_path, stream_task_count=1)
    context = nodes(config, tmp_path / "hospitals")[100]
    folder = tmp_path / "hospitals" / "site-0" / FOLDER / "tiny"
    hold(folder, {"backbone.conv": torch.ones(2, 2)})
    before = (folder / NAME).read_bytes()
    order = Order("tiny", 0, "sleep", 0, build_registry(config.stream, config.seed), {"huge": torch.ones(1000)})
    record = ConfigRecord({"json": order.text()})
    content = RecordDict({"weights": ArrayRecord(in_one_piece(order.weights, Array)), "order": record})
    reply = handle(Message(content, dst_node_id=100, message_type="train.sleep"), context)
    assert "cannot be used" in str(reply.content["report"]["json"])
    assert "holds" not in reply.content["report"]
    assert (folder / NAME).read_bytes() == before


def test_an_answer_is_not_lost_where_the_network_cannot_be_held(tmp_path, monkeypatch):
    few = {"stream_task_count": 1, "sleep_rounds": 1}

    def full(folder, weights):
        raise VaultError("the disk is full")

    monkeypatch.setattr("client.app.hold", full)
    config = tiny(tmp_path / "flower", **few)
    serve(InProcessGrid(nodes(config, tmp_path / "hospitals")), config)
    assert not any(step.missing for step in RunStore(tmp_path / "flower").steps("tiny"))


def test_a_damaged_network_is_none_that_is_held(tmp_path):
    network = {"backbone.conv": torch.ones(2, 2)}
    hold(tmp_path, network)
    assert set(held(tmp_path, digest_of(network))) == set(network)
    assert held(tmp_path, "0" * 64) is None
    content = bytearray((tmp_path / NAME).read_bytes())
    content[-1] ^= 1
    (tmp_path / NAME).write_bytes(content)
    assert held(tmp_path, digest_of(network)) is None
    (tmp_path / NAME).write_bytes(b"")
    assert held(tmp_path, digest_of(network)) is None
