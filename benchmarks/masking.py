"""What masks cost: CPU of a hospital and of the server, bytes, the error of the mean, and the time of a round.

    python benchmarks/masking.py sums [3 10 50]     # updates of a ResNet-18, without training
    python benchmarks/masking.py round [10]         # a round of sleep of the demo's, with and without masks

Both in one process and one thread: seconds are CPU seconds of that process, so that other work on the machine does
not count.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from braincl_med.federation.exchange import Hospitals
from braincl_med.federation.hospital import Hospital
from braincl_med.federation.local import local_exchange, local_hospitals
from braincl_med.federation.masked_server import MaskedHospitals
from braincl_med.federation.masked_step import layout_of, values_of
from braincl_med.federation.masks import context_of
from braincl_med.masking.agreement import new_private, public_of
from braincl_med.masking.protocol import Party, mask, reveal, unmask
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report, size_of
from braincl_med.methods import METHODS
from braincl_med.methods.base import grow
from braincl_med.methods.phase import Phase
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import load_experiment
from braincl_med.streams.named import build_registry

T = TypeVar("T")
EXPERIMENT = """
stream: {name: phantom, task-count: 1, train-per-class: 300, test-per-class: 50}
cortex: {stem: 3x3-stride2}
sleep: {rounds: 5, epochs: 15, batch-size: 32, learning-rate: 0.05, schedule: cosine}
"""
"""As the demo: 300 scans a class over all hospitals, 3 epochs a round."""
SIZE = 0.01
"""Of a step of a weight: what one round of sleep moves."""


def timed(run: Callable[[], T]) -> tuple[T, float]:
    """What `run` gives, and its CPU seconds."""
    begun = time.process_time()
    result = run()
    return result, time.process_time() - begun


def experiment(folder: str, hospitals: int, **overrides: object) -> ExperimentConfig:
    """The demo's settings over phantom scans and so many hospitals."""
    keys = {"federation-hospitals": hospitals, "state-root": folder, "method": "finetune"}
    return load_experiment(EXPERIMENT, {**keys, **{k.replace("_", "-"): v for k, v in overrides.items()}})


def ordered(config: ExperimentConfig, phase: Phase) -> Order:
    registry = build_registry(config.stream, config.seed)
    torch.manual_seed(0)
    return Order(config.name, 0, phase.name, 0, registry, grow({}, config.cortex, registry.seen(0)))


def sums(count: int, folder: str) -> None:
    """One sum over `count` hospitals, of which one hands in nothing, of updates that are drawn."""
    config = experiment(folder, count, federation_masking="on")
    method = METHODS["finetune"]
    (phase,) = (phase for phase in method.phases if phase.name == "train")
    order, threshold = ordered(config, phase), config.federation.masked_least
    layout = layout_of(order, phase, method, config)
    names = sorted(f"site-{number}" for number in range(count))
    private = {name: new_private() for name in names}
    publics = {name: public_of(key) for name, key in private.items()}
    context, digesting = timed(lambda: context_of(order, threshold))
    parties = {name: Party(name, private[name], publics, threshold, context) for name in names}
    generator = np.random.default_rng(0)
    total = {bits: 0 for bits in layout.lengths}
    mean, samples, encoding, masking, sealed = {}, 0, [], [], {}
    alive, dropped = names[:-1], names[-1:]
    for name in alive:
        count_of = int(generator.integers(50, 400))
        samples += count_of
        updated = {}
        for key, tensor in order.weights.items():
            moved = tensor.numpy() + SIZE * generator.standard_normal(tensor.shape, np.float32)
            updated[key] = torch.from_numpy(moved) if tensor.is_floating_point() else tensor
            if tensor.is_floating_point():
                mean[key] = mean.get(key, 0) + count_of * updated[key].double()
        report = Report(name, count_of, 1.0, weights=updated)
        values = values_of(report, order, phase, method, config)
        (vectors, clipped), seconds = timed(lambda v=values: layout.encode(v))
        assert not clipped
        encoding.append(seconds)
        sealed[name], seconds = timed(lambda p=parties[name], v=vectors: mask(p, v))
        masking.append(seconds)
        total = {bits: total[bits] + vector for bits, vector in vectors.items()}
    boxes = {to: {name: one.boxes[to] for name, one in sealed.items()} for to in alive}
    told, revealing = {}, []
    for name in alive:
        told[name], seconds = timed(lambda n=name: reveal(parties[n], alive, dropped, boxes[n]))
        revealing.append(seconds)
    digests = {name: one.digests for name, one in sealed.items()}
    _, unmasking = timed(lambda: unmask(total, digests, dropped, told, threshold, context))
    found = layout.decode(total)
    assert found["weight"] == samples
    error = max(
        float(np.abs(found[f"weights.{key}"] / samples + order.weights[key].numpy() - m.numpy() / samples).max())
        for key, m in mean.items()
    )
    up = sum(length * bits // 8 for bits, length in layout.lengths.items())
    shares = sum(len(box) for box in sealed[alive[0]].boxes.values())
    print(
        f"{count} hospitals, threshold {threshold}, one missing: digest {digesting:.2f} s, encoding "
        f"{np.median(encoding):.2f} s, masking {np.median(masking):.2f} s, shares {np.median(revealing):.3f} s a "
        f"hospital; unmasking {unmasking:.2f} s at the server; {up / 1e6:.1f} MB up and {shares / 1e3:.1f} kB of "
        f"shares (plain: {size_of(report) / 1e6:.1f} MB); largest error of the mean {error:.1e}; "
        f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"
    )


def rounds(count: int, folder: str) -> None:
    """One round of training, as the demo has it, by so many hospitals one after the other.

    What trains is timed apart: it is the same with and without masks, and varies by more than they take.
    """
    method = METHODS["finetune"]
    (phase,) = (phase for phase in method.phases if phase.name == "train")
    training: list[float] = []
    carried_out = Hospital._carried_out

    def carrying(hospital: Hospital, order: Order, phase: Phase) -> Report:
        report, seconds = timed(lambda: carried_out(hospital, order, phase))
        training.append(seconds)
        return report

    Hospital._carried_out = carrying  # type: ignore[method-assign]
    beside: dict[str, list[float]] = {"off": [], "on": []}
    trained = []
    for masking in ("off", "on", "off", "on"):
        config = experiment(folder, count, name=f"masks-{masking}", federation_masking=masking)
        exchange, order = local_exchange(local_hospitals(config)), ordered(config, phase)
        asked = (
            MaskedHospitals(exchange, config.federation, config=config)
            if masking == "on"
            else Hospitals(exchange, config.federation)
        )
        training.clear()
        outcome, cpu = timed(lambda a=asked, o=order: a.ask(o, phase, method, ()))
        trained.append(sum(training))
        beside[masking].append(cpu - sum(training))
        samples = sum(report.examples for report in outcome.usable)
        print(
            f"masking {masking}: {count} hospitals and {samples} samples, training {trained[-1]:.1f} s, all else "
            f"{beside[masking][-1]:.2f} s", flush=True,
        )  # fmt: skip
    added, whole = min(beside["on"]) - min(beside["off"]), min(trained) + min(beside["off"])
    print(f"masks add {added:.2f} s, {100 * added / whole:.1f} % of a round; its keys are among them")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sums", "round"])
    parser.add_argument("hospitals", type=int, nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.hospitals or ([3, 10, 50] if arguments.what == "sums" else [10]):
            (sums if arguments.what == "sums" else rounds)(count, str(Path(folder) / str(count)))


if __name__ == "__main__":
    main()
