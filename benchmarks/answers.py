"""Memory and time of the server for one round, against the number of hospitals.

    python benchmarks/answers.py --hospitals 3 10 30 100 [--robust median] [--seed 1]

Each number runs in a process of its own: an order of a ResNet-18 goes to a grid that makes an answer, the network
with a little noise, whenever one is fetched; the answers are judged and joined as in a run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from braincl_med.cortex.cortex import Cortex
from braincl_med.federation.aggregate import join_of
from braincl_med.federation.exchange import Hospitals
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.messages.tensors import in_one_piece, tensors_of
from braincl_med.methods import METHODS
from braincl_med.methods.braincl import SLEEP
from braincl_med.settings.config import ExperimentConfig
from braincl_med.streams.named import build_registry
from server.app import FlowerNodes

MEBIBYTE = 1 << 20
NOISE = 0.001


class Grid:
    """Nodes that answer at once."""

    def __init__(self, nodes: int, seed: int) -> None:
        self.nodes, self.seed = nodes, seed
        self.asked: dict[str, Message] = {}

    def get_node_ids(self) -> list[int]:
        """Their numbers."""
        return list(range(1, self.nodes + 1))

    def get_nodes(self) -> list[SimpleNamespace]:
        """None of them registered."""
        return [SimpleNamespace(node_id=number, name="", public_key=b"") for number in self.get_node_ids()]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Take messages."""
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(message.metadata.dst_node_id)
            self.asked[message.metadata.message_id] = message
        return list(self.asked)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Make answers to them."""
        return [self._answer(self.asked.pop(number)) for number in message_ids]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """All of it at once."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        generator = torch.Generator().manual_seed(self.seed * 1000 + node)
        told = {
            name: tensor + NOISE * torch.randn(tensor.shape, generator=generator)
            if tensor.is_floating_point() and "running" not in name
            else tensor
            for name, tensor in tensors_of(message.content["weights"]).items()
        }
        text = Report(f"site-{node}", 100 + node, 0.5).text()
        content = RecordDict(
            {"weights": ArrayRecord(in_one_piece(told, Array)), "report": ConfigRecord({"json": text})}
        )
        reply = Message(content, dst_node_id=0, message_type=message.metadata.message_type)
        reply.metadata.__dict__["_reply_to_message_id"] = message.metadata.message_id
        return reply


def peak() -> int:
    """Most bytes that this process has had in memory."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def one_round(hospitals: int, seed: int, robust: str) -> Mapping[str, float]:
    """Bytes before and at the peak, seconds, and the joined network's sum."""
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity._run_id = TaskIdentity._node_id = TaskIdentity._task_id = 1
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as state:
        federation = {"hospitals": hospitals, **({"robust": robust} if robust != "none" else {})}
        config = ExperimentConfig.model_validate({"state-root": state, "federation": federation})
        registry = build_registry(config.stream, seed)
        network = Cortex(registry.seen(0), config.cortex).weights()
        order = Order(config.name, 0, SLEEP.name, 0, registry, network)
        before, begun = peak(), time.perf_counter()
        nodes = FlowerNodes(Grid(hospitals, seed), config)  # type: ignore[arg-type]
        outcome = Hospitals(nodes.exchange, config.federation).ask(order, SLEEP, METHODS["braincl"], ())
        joined = join_of(config.federation)(outcome.usable, network)
        seconds = time.perf_counter() - begun
        total = sum(float(tensor.double().sum()) for tensor in joined.values())
    return {"before": before, "peak": peak(), "seconds": seconds, "answers": len(outcome.usable), "sum": total}


def main() -> None:
    """Print a table, a row a number of hospitals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hospitals", type=int, nargs="+", default=[3, 10, 30, 100])
    parser.add_argument("--robust", default="none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.alone:
        print(json.dumps(one_round(told.hospitals[0], told.seed, told.robust)))
        return
    print("| hospitals | before the round, MiB | peak, MiB | s | sum of the network |")
    print("|---|---|---|---|---|")
    for count in told.hospitals:
        command = ["--alone", "--hospitals", str(count), "--seed", str(told.seed), "--robust", told.robust]
        ended = subprocess.run([sys.executable, __file__, *command], check=True, capture_output=True, text=True)
        row = json.loads(ended.stdout.splitlines()[-1])
        before, most = (round(row[key] / MEBIBYTE) for key in ("before", "peak"))
        print(f"| {count} | {before} | {most} | {row['seconds']:.1f} | {row['sum']!r} |", flush=True)


if __name__ == "__main__":
    main()
