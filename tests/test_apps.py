"""The Flower apps: in-process over a grid of client apps, and once for real."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.task_identity import TaskIdentity

from apps.cli import launcher
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, load_weights
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.hospital import require_own
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.foundation.errors import BrainclError, ConfigError, FederationError
from braincl_med.foundation.processes import LAUNCHER_VARIABLE
from braincl_med.masking.identity import own_identity
from braincl_med.messages.order import Order
from braincl_med.messages.tensors import tensors_of
from braincl_med.methods import METHODS
from braincl_med.methods.braincl import SLEEP
from braincl_med.records.store import RunStore
from braincl_med.streams.named import build_registry
from braincl_med.streams.tasks import ClassSpec, Registry, TaskSpec
from braincl_med.vault.vault import Vault
from client.app import app as client_app
from client.app import hospital_of
from server.app import FlowerNodes, message_type
from server.app import app as server_app
from tests.federation.experiments import tiny
from tests.federation.test_coordinator import figures

BRAINCL = Path(sys.executable).parent / "braincl"


@pytest.fixture(autouse=True)
def _identity(monkeypatch):
    """Flower's processes know which run and node they are; a test is both."""
    monkeypatch.setattr(TaskIdentity, "_run_id", 1)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1)
    monkeypatch.setattr(TaskIdentity, "_task_id", 1)


class InProcessGrid:
    """Enough of Flower's grid to carry a whole experiment: client apps are called one after the other."""

    def __init__(self, contexts):
        self.contexts = contexts
        self.messages = []
        self.replies = {}
        self.registered = {}

    def get_node_ids(self):
        return list(self.contexts)

    def get_nodes(self):
        return [NodeInfo(node_id=node, **self.registered.get(node, {})) for node in self.contexts]

    def push_messages(self, messages):
        replies = self.send_and_receive(messages)
        self.replies |= {reply.metadata.reply_to_message_id: reply for reply in replies}
        return [message.metadata.message_id for message in messages]

    def pull_messages(self, message_ids):
        return [self.replies.pop(number) for number in message_ids if number in self.replies]

    def send_and_receive(self, messages, *, timeout=None):
        self.messages += messages
        replies = []
        for number, message in enumerate(messages):
            message.metadata.__dict__["_message_id"] = f"{len(self.messages)}-{number}"
            replies.append(client_app(message, self.contexts[message.metadata.dst_node_id]))
        return replies


def contexts(config, nodes=2, **node_config):
    run_config = {"config": config.model_dump_json(by_alias=True)}
    return {
        100 + n: Context(
            run_id=1,
            node_id=100 + n,
            node_config={"partition-id": n, "num-partitions": nodes, **node_config},
            state=RecordDict(),
            run_config=run_config,
        )
        for n in range(nodes)
    }


def server_context(config):
    return Context(
        run_id=1,
        node_id=0,
        node_config={},
        state=RecordDict(),
        run_config={"config": config.model_dump_json(by_alias=True)},
    )


@pytest.mark.parametrize("method", ["braincl", "icarl"])
def test_the_apps_reach_the_same_results_as_hospitals_without_flower(tmp_path, method):
    config = tiny(tmp_path / "flower", method=method, stream_task_count=2)
    grid = InProcessGrid(contexts(config))
    serve(grid, config)
    run_locally(tiny(tmp_path / "alone", method=method, stream_task_count=2))
    with_flower, alone = figures(tmp_path / "flower"), figures(tmp_path / "alone")
    assert with_flower == alone
    kinds = {m.metadata.message_type for m in grid.messages}
    assert kinds == {message_type(phase) for phase, _ in METHODS[method].schedule(config)}


def serve(grid, config):
    server_app(grid, server_context(config))


def test_what_crosses_the_wire_is_weights_and_text_without_scans(tmp_path):
    config = tiny(tmp_path, stream_task_count=1)
    grid = InProcessGrid(contexts(config))
    seen = []
    original = grid.send_and_receive

    def watching(messages, *, timeout=None):
        replies = original(messages, timeout=timeout)
        seen.extend(replies)
        return replies

    grid.send_and_receive = watching
    serve(grid, config)
    assert any(reply.content["weights"] for reply in seen)
    for reply in seen:
        assert set(reply.content) == {"weights", "report"}
        names = set(tensors_of(reply.content["weights"]))
        assert all(n.startswith(("backbone.", "classifier.")) for n in names)
        assert set(json.loads(reply.content["report"]["json"])) == {
            "hospital",
            "examples",
            "loss",
            "figures",
            "failure",
            "threads",
        }


def test_moments_of_all_hospitals_travel_both_ways(tmp_path):
    config = tiny(
        tmp_path, sleep_classifier="discriminant", stream_share="by-class", stream_task_count=1, sleep_rounds=1
    )
    grid = InProcessGrid(contexts(config))
    original, told = grid.send_and_receive, {}

    def watching(messages, *, timeout=None):
        told[messages[0].metadata.message_type] = set(tensors_of(messages[0].content["weights"]))
        return original(messages, timeout=timeout)

    grid.send_and_receive = watching
    serve(grid, config)
    moments = {"moments.shares", "moments.sums", "moments.second"}
    assert moments <= told["evaluate"]
    assert not moments & told["train.discriminate"]
    assert "familiarity" in RunStore(tmp_path).scores("tiny", 0)


def test_a_node_that_is_set_up_wrongly_says_so_and_the_run_fails_with_its_sentence(tmp_path):
    config = tiny(tmp_path)
    nodes = contexts(config)
    nodes[101].node_config["partition-id"] = 7
    with pytest.raises(RuntimeError, match="this node has partition-id 7, the experiment has 2 hospitals"):
        serve(InProcessGrid(nodes), config)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ({"partition-id": -1}, "this node has partition-id -1, the experiment has 2 hospitals"),
        ({"partition-id": "x"}, "this node has partition-id x, the experiment has 2 hospitals"),
        ({"vault-dir": "vault"}, "this node's vault-dir is no absolute folder"),
        ({"data-dir": ""}, "this node's data-dir is no absolute folder"),
        ({"site": "../north"}, "this node's name (site) is '../north'"),
    ],
)
def test_a_node_that_is_set_up_wrongly_is_told_what_is_wrong(tmp_path, node, reason):
    config = tiny(tmp_path)
    context = contexts(config)[101]
    context.node_config.update(node)
    with pytest.raises(ConfigError, match=re.escape(reason)):
        hospital_of(context)


def test_an_order_over_other_tasks_than_the_experiments_own_is_refused(tmp_path):
    config = tiny(tmp_path)
    registry = build_registry(config.stream, config.seed)
    later = TaskSpec(name="later", classes=(ClassSpec(dataset="phantom-fundus", label=0, name="fundus"),))
    require_own(Order("tiny", 3, "encode", 0, registry.with_task(later)), config)
    with pytest.raises(FederationError, match="the order's tasks are not those of 'tiny' here"):
        require_own(Order("tiny", 0, "encode", 0, Registry(tasks=(later, *registry.tasks))), config)
    missing = later.model_copy(update={"classes": (later.classes[0].model_copy(update={"label": 99}),)})
    with pytest.raises(ConfigError, match="has no class '99'"):
        require_own(Order("tiny", 3, "encode", 0, registry.with_task(missing)), config)


def test_a_vault_dir_and_a_site_name_of_the_node_are_used(tmp_path):
    config = tiny(tmp_path / "state", stream_task_count=1, federation_hospitals=1)
    nodes = contexts(config, nodes=1, **{"vault-dir": str(tmp_path / "vault"), "site": "st-elsewhere"})
    serve(InProcessGrid(nodes), config)
    assert (tmp_path / "vault" / "tiny" / "manifest.json").is_file()
    assert RunStore(tmp_path / "state").tally("tiny").hospitals == ("st-elsewhere",)


def test_a_node_seals_its_vault_with_keys_of_its_own(tmp_path):
    config = tiny(tmp_path / "state", stream_task_count=1, federation_hospitals=1)
    (tmp_path / "vault.key").write_bytes(bytes(range(32)))
    (tmp_path / "vault.key").chmod(0o600)
    own = {"vault-dir": str(tmp_path / "vault"), "site": "north", "vault-key": f"file:{tmp_path / 'vault.key'}"}
    apart = {"network-key": "command:head -c 32 /dev/urandom", "network-dir": str(tmp_path / "apart")}
    (context,) = contexts(config, nodes=1, **own, **apart).values()
    keys = hospital_of(context).vault.keys
    assert (keys.vault.secret, keys.hospital, keys.network_dir) == (bytes(range(32)), "north", tmp_path / "apart")
    assert len(keys.network.secret) == 32
    serve(InProcessGrid(contexts(config, nodes=1, **own)), config)
    entry = Vault(tmp_path / "vault" / "tiny").entry(0)
    assert (entry.seal.hospital, entry.seal.key) == ("north", keys.vault.id)
    assert Vault(tmp_path / "vault" / "tiny", keys).load(0).records


def pinning(folder, count):
    """What nodes of their own say: a folder each, an identity, and all hospitals' pinned ones."""
    lines = []
    for number in range(count):
        own_identity(folder / f"v{number}" / "key", f"site-{number}")
        lines.append((folder / f"v{number}" / "key.pub").read_text())
    (folder / "identities").write_text("".join(lines))
    return [
        {
            "partition-id": number,
            "site": f"site-{number}",
            "vault-dir": str(folder / f"v{number}"),
            "identity-key": str(folder / f"v{number}" / "key"),
            "masking-identities": str(folder / "identities"),
        }
        for number in range(count)
    ]


MASKED = {
    "federation_masking": "on",
    "federation_hospitals": 3,
    "stream_task_count": 1,
    "sleep_rounds": 1,
    "method": "finetune",
}


def test_nodes_that_pin_identities_answer_under_masks_alone(tmp_path):
    config = tiny(tmp_path / "state", **MASKED)
    nodes = contexts(config, nodes=3)
    for context, own in zip(nodes.values(), pinning(tmp_path, 3), strict=True):
        context.node_config.update(own)
    grid = InProcessGrid(nodes)
    original, told = grid.send_and_receive, []

    def watching(messages, *, timeout=None):
        replies = original(messages, timeout=timeout)
        told.extend(json.loads(reply.content["report"]["json"]) for reply in replies)
        return replies

    grid.send_and_receive = watching
    serve(grid, config)
    run_locally(tiny(tmp_path / "alone", **MASKED))
    assert without_bytes(figures(tmp_path / "state")) == without_bytes(figures(tmp_path / "alone"))
    assert all((r["examples"], r["loss"], r["figures"]) == (0, None, {}) for r in told)
    assert {r["hospital"] for r in told} == {"site-0", "site-1", "site-2"}
    assert RunStore(tmp_path / "state").tally("tiny").hospitals == ("all hospitals",)
    plain = tiny(tmp_path / "plain", **{**MASKED, "federation_masking": "off"})
    for context in nodes.values():
        context.run_config["config"] = plain.model_dump_json(by_alias=True)
        with pytest.raises(ConfigError, match="takes part in masked sums alone"):
            hospital_of(context)


def test_a_node_takes_part_in_masked_sums_with_pinned_identities_alone(tmp_path):
    config = tiny(tmp_path / "state", **MASKED)
    nodes, own = contexts(config, nodes=3), pinning(tmp_path, 3)
    unpinned = dict(own[0])
    del unpinned["masking-identities"]
    (context, *_) = nodes.values()
    context.node_config.update(unpinned)
    with pytest.raises(ConfigError, match="this node pins no identities of hospitals"):
        hospital_of(context)
    # One that the others do not pin is left out by none: all refuse.
    stranger = own_identity(tmp_path / "stranger" / "key", "site-2").public
    for context, node in zip(nodes.values(), own, strict=True):
        context.node_config.update(node)
    context.node_config["identity-key"] = str(tmp_path / "stranger" / "key")
    assert stranger not in (tmp_path / "identities").read_text()
    with pytest.raises(RuntimeError, match="the key of 'site-2' is not signed by the identity that is pinned for it"):
        serve(InProcessGrid(nodes), config)


def test_a_run_cannot_pick_a_few_of_the_hospitals_that_are_pinned(tmp_path):
    config = tiny(tmp_path / "state", **MASKED)
    nodes, own = contexts(config, nodes=3), pinning(tmp_path, 4)
    for context, node in zip(nodes.values(), own[:3], strict=True):
        context.node_config.update(node)
    with pytest.raises(RuntimeError, match="4 hospitals are pinned here, and a sum of 2 would do"):
        serve(InProcessGrid(nodes), config)


@pytest.mark.parametrize("named", ["vault_key", "network_key"])
@pytest.mark.parametrize(
    "node", [{"vault-dir": "/vault"}, {"vault-key": "env:OWN"}, {"site": "north"}, "no simulation"]
)
def test_a_run_cannot_say_what_a_hospital_takes_for_a_key_or_runs_for_one(tmp_path, named, node):
    """A command in the run's configuration would be the server's code."""
    witness = tmp_path / "witness"
    keys = {"vault_key": f"command:touch {witness}", named: f"command:touch {witness}"}
    (context, _) = contexts(tiny(tmp_path, **keys)).values()
    if node == "no simulation":
        del context.node_config["num-partitions"]
    else:
        context.node_config.update(node)
    with pytest.raises(
        ConfigError, match="which a hospital takes from its own node alone: leave them out of the run"
    ):
        hospital_of(context)
    assert not witness.exists()


def test_too_few_hospitals_are_waited_for_and_then_named(tmp_path):
    config = tiny(tmp_path, federation_wait_seconds=0.1)
    with pytest.raises(RuntimeError, match="1 of 2 hospitals connected within 0 s, the quorum is 2"):
        serve(InProcessGrid(contexts(config, nodes=1)), config)


def test_a_hospital_that_does_not_come_is_waited_for_once_and_welcome_later(tmp_path):
    config = tiny(tmp_path, federation_wait_seconds=0.5, federation_quorum=1)
    grid = InProcessGrid(contexts(config))
    both = list(grid.get_node_ids())
    grid.get_node_ids = lambda: both[:1]
    nodes, begun = FlowerNodes(grid, config), time.monotonic()
    assert nodes.connected() == both[:1]
    waited = time.monotonic() - begun
    assert nodes.connected() == both[:1]
    assert time.monotonic() - begun < waited + 0.4 <= 2.5
    grid.get_node_ids = lambda: both
    assert nodes.connected() == sorted(both)


def test_a_killed_supernode_is_named_though_its_error_comes_from_the_superlink(tmp_path):
    config = tiny(tmp_path, federation_quorum=1, stream_task_count=1)
    grid = InProcessGrid(contexts(config))
    original = grid.send_and_receive

    def killing(messages, *, timeout=None):
        replies = original(messages, timeout=timeout)
        if messages[0].metadata.message_type == message_type(SLEEP):
            error = Message(Error(code=1, reason="unavailable"), reply_to=messages[1])
            error.metadata.__dict__["_src_node_id"] = 1
            replies[1] = error
        return replies

    grid.send_and_receive = killing
    serve(grid, config)
    missing = [s.missing for s in RunStore(tmp_path).steps("tiny") if s.phase == "sleep"]
    assert [list(m) for m in missing] == [["site-1"]] * 2
    assert "Flower error" in missing[0]["site-1"]


@pytest.mark.parametrize(
    "spoiled", ["no records", "no json", "more records", "more fields", "no array", "deep", "a huge loss"]
)
def test_whatever_a_node_answers_is_its_own_refusal(tmp_path, spoiled):
    config = tiny(tmp_path, federation_quorum=1, stream_task_count=1, sleep_rounds=1, method="finetune")
    grid = InProcessGrid(contexts(config))
    original = grid.send_and_receive

    def spoiling(messages, *, timeout=None):
        replies = original(messages, timeout=timeout)
        if messages[0].metadata.message_type == "train.train":
            content = replies[1].content
            text = content["report"]["json"]
            if spoiled == "no records":
                content = RecordDict()
            elif spoiled == "no json":
                content["report"] = ConfigRecord({"json": 5})
            elif spoiled == "more records":
                content["more"] = ConfigRecord()
            elif spoiled == "more fields":
                content["report"]["more"] = 1
            elif spoiled == "deep":
                content["report"] = ConfigRecord({"json": '{"a":' * 10**5})
            elif spoiled == "a huge loss":
                content["report"] = ConfigRecord({"json": re.sub('"loss": [^,]*', f'"loss": {10**400}', text)})
            else:
                content["weights"] = ArrayRecord({"classifier.bias": Array("float32", (3,), "numpy.ndarray", b"")})
            replies[1] = Message(content, reply_to=messages[1])
        return replies

    grid.send_and_receive = spoiling
    serve(grid, config)
    steps = {step.phase: step for step in RunStore(tmp_path).steps("tiny")}
    assert list(steps["train"].missing) in (["node-101"], ["site-1"])
    reason = next(iter(steps["train"].missing.values()))
    assert "cannot be" in reason or "it holds other" in reason or "is not one text" in reason
    assert steps["evaluate"].missing == {}


def test_an_answer_that_flower_cannot_read_is_that_nodes_refusal_and_an_error_of_the_superlink_nobodys(tmp_path):
    config = tiny(tmp_path, federation_quorum=1, stream_task_count=1, sleep_rounds=1, method="finetune")
    grid = InProcessGrid(contexts(config))
    original, errors = grid.pull_messages, [httpx.ReadTimeout("late"), httpx.HTTPError("500")]

    def garbage(message_ids):
        if errors:
            raise errors.pop()
        (reply,) = original(message_ids)
        if reply.metadata.src_node_id == 101 and reply.metadata.message_type == "train.train":
            raise ValueError("Invalid object type")
        return [reply]

    grid.pull_messages = garbage
    serve(grid, config)
    assert not errors
    steps = {step.phase: step for step in RunStore(tmp_path).steps("tiny")}
    assert steps["train"].missing == {"node-101": "its answer cannot be fetched (ValueError)"}
    assert steps["evaluate"].missing == {}


def test_a_registered_nodes_name_is_its_keys_in_later_runs_too(tmp_path):
    config = tiny(tmp_path, federation_quorum=1, stream_task_count=1, sleep_rounds=1, method="finetune")
    grid = InProcessGrid(contexts(config))
    grid.registered = {100: {"name": "one", "public_key": b"1"}, 101: {"name": "two", "public_key": b"2"}}
    original = grid.pull_messages

    def killed(message_ids):
        if any(message.metadata.message_type == "evaluate" for message in grid.messages):
            raise KeyboardInterrupt
        return original(message_ids)

    grid.pull_messages = killed
    with pytest.raises(KeyboardInterrupt):
        serve(grid, config)
    later = InProcessGrid(contexts(config.model_copy(update={"resume": True})))
    later.registered = {100: {"name": "one", "public_key": b"1"}, 101: {"name": "three", "public_key": b"3"}}
    serve(later, config.model_copy(update={"resume": True}))
    steps = {step.phase: step for step in RunStore(tmp_path).steps("tiny")}
    assert steps["train"].missing == {}
    assert "which is bound to another node's key" in steps["evaluate"].missing["node-101"]


def below(launcher):
    """Every process of a run by the launcher that its environment names, whoever is its parent by now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(LAUNCHER_VARIABLE) == str(launcher):
                found.append(process)
    return found


def commands_below(launcher):
    """The programs of `below`; a process may end while it is looked at."""
    for process in below(launcher):
        with contextlib.suppress(psutil.Error):
            yield " ".join(process.cmdline())


def within(seconds, holds):
    """Whether something comes true in time."""
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return held


def test_a_run_whose_clients_always_fail_ends_with_one_sentence_without_a_path(tmp_path):
    for number in range(2):
        (tmp_path / f"site-{number}").write_text("a file where the vault's folder should be")
    config = tiny(tmp_path)
    with pytest.raises(RuntimeError, match="0 of 2 hospitals gave a usable answer") as failed:
        serve(InProcessGrid(contexts(config)), config)
    assert "\n" not in str(failed.value)
    assert str(tmp_path) not in str(failed.value)
    assert RunStore(tmp_path).experiment("tiny").status == "failed"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_ends_the_run_and_leaves_vaults_and_checkpoint_readable(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not allow to mount a tmpfs")
    try:
        config = tiny(disk, stream_task_count=2)
        exchange = local_exchange(local_hospitals(config))

        def filling(order):
            reports = exchange(order)
            if order.phase == "sleep":
                with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
                    while True:
                        filler.write(bytes(4096))
            return reports

        with pytest.raises(BrainclError, match="the disk is full"):
            Coordinator(config, filling).run()
        checkpoint = load_checkpoint(folder_of(disk, "tiny"))
        assert METHODS["braincl"].schedule(config)[checkpoint.position] == (SLEEP, 0)
        assert load_weights(folder_of(disk, "tiny"), checkpoint)
        for site in ("site-0", "site-1"):
            vault = Vault(disk / site / "tiny")
            (entry,) = vault.manifest().entries
            assert vault.load_entry(entry).records
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.flower
@pytest.mark.timeout(420)
def test_a_killed_launcher_leaves_no_process_and_resumed_equals_the_run_without_flower(tmp_path, monkeypatch):
    # The launcher asks once in five times this.
    monkeypatch.setattr(launcher, "POLL_SECONDS", 0.5)
    few = {"stream_task_count": 1, "sleep_rounds": 1, "cortex_network": "resnet18"}
    state, alone = tmp_path / "flower", tmp_path / "alone"
    state.mkdir()
    config = tiny(state, **few)
    path = tmp_path / "tiny.yaml"
    path.write_text(config.model_dump_json(by_alias=True))
    launched = subprocess.Popen([BRAINCL, "run", path, "--state", state, "--cores", "1"], stdout=subprocess.DEVNULL)
    log = state / "logs" / "tiny.log"
    assert within(200, lambda: launched.poll() is not None or (log.is_file() and "wake round 1" in log.read_text()))
    assert launched.poll() is None, "the launcher must be killed in the middle of its run"

    def superlinks():
        return [c for c in commands_below(launched.pid) if "flower-superlink" in c]

    assert superlinks()
    launched.send_signal(signal.SIGKILL)
    launched.wait()
    assert within(60, lambda: not superlinks())

    # The killed run's server notices at its next step that it is alone; the new run waits for that.
    again = config.model_copy(update={"resume": True})
    assert "has learned all 1 tasks" in launcher.run_experiment(again, cores_per_hospital=1)
    assert within(60, lambda: not below(launched.pid))
    assert within(60, lambda: not below(os.getpid()))

    run_locally(tiny(alone, **few))
    assert RunStore(state).experiment("tiny").status == "finished"
    assert without_bytes(figures(state)) == without_bytes(figures(alone))
    flower, local = (load_checkpoint(folder_of(folder, "tiny")) for folder in (state, alone))
    assert (flower.threads, flower.sha256) == (local.threads, local.sha256)
    assert cue_files(state) == cue_files(alone)


def without_bytes(figures):
    """What does not depend on what hospitals hold."""
    confusions, storage, steps, last = figures
    return confusions, storage, [dataclasses.replace(step, bytes_down=0, bytes_up=0) for step in steps], last


def cue_files(state):
    """What the hospitals' vaults hold, byte by byte."""
    found = {str(path.relative_to(state)): path.read_bytes() for path in state.glob("site-*/tiny/*.cue")}
    assert len(found) == 2
    return found
