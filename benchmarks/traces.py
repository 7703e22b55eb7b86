"""Whether a network tells two breasts apart or the memories that they come from, after a run of benchmarks/swap.py.

    BRAINCL_DATA=… python benchmarks/traces.py FOLDER swap-1

Raw training scans of both breast classes, which are in tasks 3 and 4, are recalled through the memory of either task,
fitted anew as the hospital fitted it; the network says what it takes them for.
"""

import sys
from pathlib import Path

from braincl_med.cortex.cortex import Cortex, predict
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, load_network
from braincl_med.federation.examine import examined_config
from braincl_med.federation.local import local_hospitals
from braincl_med.memory.module import complete, fit
from braincl_med.messages.order import Order

TASKS = (2, 3)


def main(state: Path, name: str) -> None:
    config = examined_config(state, name)
    folder = folder_of(state, name)
    checkpoint = load_checkpoint(folder)
    assert checkpoint is not None
    registry, hospital = checkpoint.registry, local_hospitals(config)[0]
    cortex = Cortex.of(load_network(folder, checkpoint), config.cortex)
    scans = {task: hospital.raw(registry, task) for task in TASKS}
    memories = {}
    for task in TASKS:
        seed = hospital.seed(Order(name, task, "encode", 0, registry, {}))
        memories[task] = fit(scans[task].images, config.memory, seed, scans[task].labels)
    breasts = [number for number, spec in enumerate(registry.classes) if spec.dataset == "breastmnist"]
    print("| class | as | " + " | ".join(f"taken for {registry.classes[b].name}, %" for b in breasts) + " |")
    print("|---|---" * 2 + "|")
    for task in TASKS:
        for label in (b for b in breasts if b in registry.numbers(task)):
            raw = scans[task].images[scans[task].labels == label]
            recalled = {f"memory {t + 1}": complete(memories[t].completion, memories[t].encode(raw)) for t in TASKS}
            for source, images in {"raw": raw, **recalled}.items():
                answers = predict(cortex, images).argmax(1)
                shares = " | ".join(f"{100 * (answers == b).mean():.0f}" for b in breasts)
                print(f"| {registry.classes[label].name} | {source} | {shares} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
