"""What steps in 8 bits do to accuracy, and how many bytes go: the demo in miniature, three seeds, in one process.

BRAINCL_DATA=… python benchmarks/update_bits.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals
from braincl_med.messages.compact import coded, size_of_tensors
from braincl_med.records.store import RunStore
from braincl_med.records.summary import summarise
from braincl_med.settings.loading import load_experiment

SETTINGS = {
    "stream-train-per-class": 100,
    "selection-per-class": 100,
    "sleep-epochs": 10,
    "stream-test-per-class": 200,
}


def main(folder: Path) -> None:
    print("| bits | seed | last accuracy, % | average, % | MB, whole | MB, as coded |\n|---|---|---|---|---|---|")
    for seed in (1, 2, 3):
        for bits in (32, 8):
            keys = {
                "name": f"bits-{bits}-{seed}",
                "seed": seed,
                "federation-update-bits": bits,
                "stream-fallback": "none",
            }
            config = load_experiment("demo", {**SETTINGS, **keys, "state-root": str(folder)})
            exchange, sizes, held = local_exchange(local_hospitals(config)), [0, 0], {}

            def counting(order, exchange=exchange, sizes=sizes, held=held, bits=bits):
                reports = exchange(order)
                for sent, base in [(order.weights, held)] * 3 + [(r.weights, order.weights) for r in reports]:
                    sizes[0] += size_of_tensors(sent)
                    sizes[1] += size_of_tensors(coded(sent, base, bits == 8).tensors)
                if order.weights:
                    held.clear()
                    held.update(order.weights)
                return reports

            Coordinator(config, counting).run()
            s = summarise(RunStore(folder), config.name)
            print(
                f"| {bits} | {seed} | {100 * s.last_accuracy:.1f} | {100 * s.average_accuracy:.1f} | "
                f"{sizes[0] / 1e6:.0f} | {sizes[1] / 1e6:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
