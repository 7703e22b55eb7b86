"""BrainCL at one hospital beside Joint on raw scans and Finetune: same network, epochs, schedule and augmentation.

    BRAINCL_DATA=/folder/of/npz/files python benchmarks/centralised.py --state /tmp/centralised

Resumable: what is finished below the state root is not run again. Prints the table of docs/results/centralised.md.
"""

import argparse
import logging
import sys
from pathlib import Path

from braincl_med.config import load_experiment
from braincl_med.federation.local import run_locally
from braincl_med.records.store import RunStore
from braincl_med.records.summary import summarise, table

VARIANTS: dict[str, dict[str, object]] = {
    "braincl": {},
    "joint": {"method": "joint"},
    "finetune": {"method": "finetune"},
    "braincl-undithered": {"sleep-dithering": 0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    names = []
    for variant in arguments.variants:
        overrides = VARIANTS[variant]
        name = f"{variant}-seed-{arguments.seed}"
        keys = {"name": name, "seed": arguments.seed, "state-root": str(arguments.state), "resume": True}
        print(run_locally(load_experiment("centralised", {**keys, **overrides})), file=sys.stderr)
        names.append(name)
    store = RunStore(arguments.state)
    print(table([summarise(store, name) for name in names]))


if __name__ == "__main__":
    main()
