"""Small runs of every method end, bit for bit, with the networks, vaults and tables that they ended with before.

`golden/small-runs.json` was made by the code before phases became values. What a processor adds up in another order
differs in the last bits, so the digests hold for machines that multiply, and train, as the one that made them.
"""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch

from braincl_med.federation.local import run_locally
from braincl_med.records.store import RunStore
from braincl_med.records.summary import summarise
from braincl_med.records.table import table
from braincl_med.settings.loading import load_experiment
from tests.small_backbone import SmallBackbone

GOLDEN = json.loads((Path(__file__).parent / "golden" / "small-runs.json").read_text())
BASE = """
name: tiny
stream: {name: phantom, task-count: 3, train-per-class: 12, test-per-class: 6}
federation: {hospitals: 2}
memory: MEMORY
cortex: {stem: imagenet, network: small-512}
wake: {learning-rate: 0.003, epochs: 2}
selection: {per-class: 8}
sleep: {rounds: 2, epochs: 2, batch-size: 16, learning-rate: 0.02}
"""
LINEAR = "{components: 6, step: 1.0, guidance: 0}"
RUNS = {
    **{
        method: {"method": method}
        for method in ("braincl", "joint", "finetune", "ewc", "replay", "replay-webp", "icarl", "der", "mesu")
    },
    "mygo": {"method": "mygo", "mygo-generator-steps": 3},
    "solved": {"sleep-classifier": "discriminant", "stream-share": "by-class"},
    "joined": {
        "federation-server-momentum": 0.5,
        "federation-classifier-rows": "by-class",
        "sleep-balance": "logits",
        "sleep-proximal": 0.01,
        "stream-share": "dirichlet",
    },
    "guided": {"memory-guidance": 0.5, "memory-guide-steps": 5, "wake-rows": "all", "wake-rounds": 2},
    "paper": {"memory-recipe": "paper", "memory-epochs": 1, "stream-task-count": 1, "stream-train-per-class": 8},
}


def fingerprint():
    """Of the arithmetic: two machines that agree in this agree in all that is compared."""
    torch.manual_seed(0)
    product = torch.randn(64, 300) @ torch.randn(300, 64)
    maps = torch.nn.functional.conv2d(torch.randn(4, 3, 28, 28), torch.randn(32, 3, 5, 5), stride=4)
    solved = torch.linalg.eigh((product @ product.T).double())[1]
    network = SmallBackbone(512)
    network(torch.randn(16, 3, 28, 28)).square().mean().backward()
    learned = [parameter.grad for parameter in network.parameters()]
    content = b"".join(t.numpy().tobytes() for t in (product, maps, solved, *learned))
    return f"torch {torch.__version__.split('+')[0]}, {hashlib.sha256(content).hexdigest()[:16]}"


def digests(folder, overrides):
    """SHA-256 of the network, of the cue files and what else hospitals keep, and of the table without its times."""
    paper = overrides.get("memory-recipe") == "paper"
    text = BASE.replace("MEMORY", "{recipe: paper}" if paper else LINEAR)
    run_locally(load_experiment(text, {"stream-task-count": 2, **overrides, "state-root": str(folder)}))
    lines = table([summarise(RunStore(folder), "tiny")]).splitlines()
    lines = [line for line in lines if not re.match(r"(time|bytes on the wire) ", line)]
    found = {
        "network": [p.read_bytes() for p in (folder / "server" / "tiny").glob("weights-*")],
        "cues": [p.read_bytes() for p in sorted(folder.glob("site-*/tiny/*.cue"))],
        "kept": [p.read_bytes() for p in sorted(folder.glob("site-*/tiny/kept/*"))],
        "table": ["\n".join(lines).encode()],
    }
    return {what: hashlib.sha256(b"".join(parts)).hexdigest() for what, parts in found.items()}


@pytest.mark.skipif(
    fingerprint() not in GOLDEN, reason=f"no golden digests were made with this arithmetic ({fingerprint()})"
)
@pytest.mark.parametrize("name", RUNS)
def test_a_small_run_ends_as_it_did_before(tmp_path, name):
    assert digests(tmp_path, RUNS[name]) == GOLDEN[fingerprint()][name]
