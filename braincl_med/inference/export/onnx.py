"""The network as an ONNX graph, from uint8 scans to probabilities and the verdict, compared with PyTorch's own."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from braincl_med.evaluation.operating import OperatingPoint
from braincl_med.foundation.arrays import Images
from braincl_med.foundation.errors import BrainclError
from braincl_med.inference.model import Model
from braincl_med.inference.network import Network, surest
from braincl_med.streams import phantom

OPSET = 20
SCANS = 100
"""On so many the graph is compared with PyTorch."""
LARGEST = 1e-4
"""Difference of a logit or a score; of one above 1 in units of itself: distances of far scans are hundreds."""
INPUT, OUTPUTS = "scans", ("logits", "probabilities", "score")
SET_ASIDE = "set_aside"


@dataclass(frozen=True)
class Compared:
    """How far the graph's answers lie from PyTorch's over some scans.

    Attributes:
        scans: how many.
        logits, probabilities, score: the largest differences, of numbers above 1 in units of themselves.
    """

    scans: int
    logits: float
    probabilities: float
    score: float


class _Graph(nn.Module):
    """What is exported: the network, and whether a scan is set aside where thresholds are known."""

    def __init__(self, network: Network, operating: OperatingPoint | None) -> None:
        super().__init__()
        self.network = network
        self.threshold = operating.threshold if operating else None
        self.sure = operating.sure if operating else None

    def forward(self, scans: Tensor) -> tuple[Tensor, ...]:
        logits, probabilities, score = self.network(scans)
        if self.threshold is None:
            return logits, probabilities, score
        # Comparisons with what is no number are false: so it is set aside.
        answered = (score >= self.threshold) & (probabilities.sum(1) > 0)
        if self.sure is not None:
            answered = answered & (surest(logits) >= self.sure)
        return logits, probabilities, score, ~answered


def onnx_of(model: Model) -> tuple[bytes, Compared]:
    """The ONNX file of a model, and how far it is from PyTorch.

    Its input `scans` is (batch, size, size, 3) uint8, batch ≥ 1, its outputs are `logits`, `probabilities`, `score`
    and, with an operating point, `set_aside`. It names no file of this machine, and two exports are equal.

    Raises:
        BrainclError: the network cannot be exported, or its answers differ by more than `LARGEST`.
    """
    network = Network.of(model).to("cpu")
    content = _exported(model, network)
    compared = compare(content, network, drawn(model.size))
    worst = float(np.max([compared.logits, compared.probabilities, compared.score]))  # NaN where any is
    if not worst <= LARGEST:
        raise BrainclError(
            f"the exported network's answers differ from PyTorch's by {worst:.2g}, at most {LARGEST:.0e} is "
            "accepted: nothing was exported; use the versions of torch and onnxruntime that constraints.txt names"
        )
    return content, compared


def compare(content: bytes, network: Network, scans: Images) -> Compared:
    """How far an ONNX file's answers to scans lie from the network's, both on the CPU."""
    from onnxruntime import InferenceSession

    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(list(OUTPUTS), {INPUT: scans})
    with torch.inference_mode():
        expected = [t.numpy() for t in network(torch.from_numpy(scans))]
    with np.errstate(invalid="ignore"):  # the difference of infinities is NaN, which is no small one
        differences = [
            float((np.abs(np.asarray(a, np.float64) - b) / np.maximum(1, np.abs(b))).max())
            for a, b in zip(found, expected, strict=True)
        ]
    return Compared(len(scans), *differences)


def drawn(size: int, count: int = SCANS) -> Images:
    """`count` phantom scans (count, size, size, 3) of all kinds: a server has no others."""
    each = -(-count // len(phantom.DATASETS))
    rows = np.linspace(0, min(len(phantom.labels(name, "test")) for name in phantom.DATASETS) - 1, each).astype(
        np.int64
    )
    return np.concatenate([phantom.load(name, "test", size, rows)[0] for name in phantom.DATASETS])[:count]


def _exported(model: Model, network: Network) -> bytes:
    operating = model.operating
    graph = _Graph(network, operating).eval()
    outputs = [*OUTPUTS, *([SET_ASIDE] if operating else [])]
    example = torch.zeros(2, model.size, model.size, 3, dtype=torch.uint8)
    with _quiet():
        try:
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=outputs,
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
                verbose=False,
            )
        except ImportError:
            raise
        except Exception as error:
            raise BrainclError(
                f"network '{model.cortex.network}' cannot be exported to ONNX by this torch "
                f"({type(error).__name__}): nothing was exported"
            ) from error
        assert program is not None
        proto: Any = program.model_proto
    _strip(proto)
    told = {
        "braincl-experiment": model.experiment,
        "braincl-classes": json.dumps([[spec.key, spec.name] for spec in model.classes], ensure_ascii=False),
        "braincl-size": str(model.size),
        "braincl-score": operating.score if operating else "",
        "braincl-threshold": repr(operating.threshold) if operating else "",
        "braincl-sure": "" if operating is None or operating.sure is None else repr(operating.sure),
        "braincl-temperature": repr(model.temperature),
    }
    for key, value in told.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _strip(proto: Any) -> None:
    """Take out where the code lay that the graph was made of, which only names files of this machine."""
    del proto.metadata_props[:]
    proto.doc_string = ""
    for graph in (proto.graph, *proto.functions):
        graph.doc_string = ""
        del graph.metadata_props[:]
        held = [graph.node, graph.value_info]
        if graph is proto.graph:
            held += [graph.input, graph.output, graph.initializer]
        for part in held:
            for item in part:
                item.doc_string = ""
                del item.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks on their own work."""
    former = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(former)


def as_told(compared: Compared) -> dict[str, Any]:
    """What `model.json` says of an export."""
    return {"opset": OPSET, "compared": asdict(compared)}
