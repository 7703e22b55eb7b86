"""What stays of an erased record: scans rebuilt from what the vault keeps, with and without the refit.

    BRAINCL_DATA=… python benchmarks/erasure.py --trials 40 --seed 0
    BRAINCL_DATA=… python benchmarks/erasure.py --membership --trials 8 --seed 0

Each trial draws a task and 300 scans that are never encoded, encodes the task with the default memory, erases its
first record, and attacks what remains (`privacy.attacks.erased`). A scan counts as found when it is nearer to what
the attack gives than all 300 are; by chance that is one in 301, for the attack by sign, which has two tries, two.

`--membership` asks what a shared network tells of erased scans: a small one is trained on the recalls of 8 classes of
blood cells, 50 scans a class, of which a fifth is then erased. AUC of the loss on the scan itself, erased ones
against five times as many that were never encoded: after training, after one more sleep on what remains
(`--retrain`), and of a network trained afresh on what remains.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch

from braincl_med.cortex.cortex import Cortex, classify, extract_features
from braincl_med.evaluation.intervals import wilson
from braincl_med.foundation.seeding import seed_everything
from braincl_med.memory.coding import FrequencyTables
from braincl_med.memory.module import complete, fit, recall_error
from braincl_med.phases.sleep import sleep
from braincl_med.privacy.attacks.erased import ATTACKS, is_found, rebuilt
from braincl_med.privacy.fidelity import psnr
from braincl_med.settings.config import CortexConfig, SleepConfig
from braincl_med.settings.memory import LinearMemory
from braincl_med.streams.tasks import Scans
from braincl_med.vault.cuefile import CODER, CueFile, Header, Shard
from braincl_med.vault.pruning import pruned
from braincl_med.vault.refit import refitted
from braincl_med.vault.subset import subset

SETS = ("bloodmnist", "pneumoniamnist")
RECORDS = (5, 10, 20, 50)
OTHERS = 300


def memory(images, labels, seed):
    """The cue file of a task under the default memory; records of a class in the order of the scans."""
    module = fit(images, LinearMemory(), seed, labels)
    cues = {int(label): module.encode(images[labels == label]) for label in np.unique(labels)}
    shards = tuple(
        Shard(
            label=label,
            dataset_label=f"set/{label}",
            records=len(q),
            words=0,
            recall_error=recall_error(module.completion, q, images[labels == label]),
        )
        for label, q in cues.items()
    )
    header = Header(
        experiment="erasure",
        task=0,
        task_name="task",
        memory="working",
        key="0" * 64,
        coder=CODER,
        shape=module.completion.shape.as_json(),
        shards=shards,
    )
    tables = FrequencyTables.of(np.concatenate(list(cues.values())))
    return pruned(CueFile.pack(header, cues, tables, module.stored))


def recalls(file):
    return np.concatenate([complete(file.network(), file.cues(s.label)) for s in file.header.shards])


def trial(images, labels, records, rng, seed):
    """Which attacks find the erased scan, the PSNR of what they give, and of the recalls before and after."""
    drawn = rng.permutation(len(images))[: records + OTHERS]
    mine, others = drawn[:records], images[drawn[records:]]
    mine = np.concatenate([mine[:1], mine[1:][np.argsort(labels[mine[1:]], kind="stable")]])
    scans, kinds = images[mine], labels[mine]
    file = memory(scans, kinds, seed)
    kept = {int(k): np.arange((kinds == k).sum())[int(k == kinds[0]) :] for k in np.unique(kinds)}
    rest = subset(file, kept)
    refit = refitted(rest)
    order = np.argsort(kinds[1:], kind="stable")
    rows = {"recall": psnr(complete(file.network(), file.cues(int(kinds[0])))[:1], scans[:1])[0]}
    for name, remaining in (("without", rest), ("with", refit.file)):
        for attack in ATTACKS:
            tries = rebuilt(remaining, attack)
            rows[attack, name] = is_found(tries, scans[0], others)
            rows[attack, name, "psnr"] = max(psnr(tries, np.repeat(scans[:1], len(tries), 0)))
        rows["mse", name] = np.mean((recalls(remaining).astype(float) - scans[1:][order]) ** 2)
    rows["lost"] = 10 * np.log10(rows["mse", "with"] / rows["mse", "without"])
    rows["said"] = refit.lost_db
    return rows


def interval(found, trials):
    """Wilson's at 95 %."""
    low, high = wilson(found, trials)
    return f"{found} of {trials} [{100 * low:.0f}, {100 * high:.0f}] %"


NETWORK = CortexConfig(network="test_resnet", input=32)
SLEEP = SleepConfig(rounds=1, epochs=25, batch_size=32, learning_rate=0.02, schedule="cosine")
CLASSES, PER_CLASS = 8, 50


def membership(images, labels, rng, seed):
    """AUC of telling erased scans from others by their loss, and test accuracy, at three moments."""
    drawn = np.concatenate([rng.permutation(np.flatnonzero(labels == k))[: 2 * PER_CLASS] for k in range(CLASSES)])
    mine, others = (drawn.reshape(CLASSES, 2, PER_CLASS)[:, side].ravel() for side in (0, 1))
    file = memory(images[mine], labels[mine], seed)
    erased = np.arange(len(mine)) % 5 == 0
    whole = Scans(recalls(file), labels[mine])
    rest = whole.take(np.flatnonzero(~erased))

    def trained(samples, start=None):
        seed_everything(seed)
        network = Cortex(CLASSES, NETWORK) if start is None else start
        sleep(network, samples, SLEEP, 0, seed, 0.0)
        return network

    def told(network):
        def losses(of):
            logits = torch.from_numpy(classify(network, extract_features(network, images[of])))
            return torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[of]), reduction="none").numpy()

        inside, outside = losses(mine[erased]), losses(others)
        logits = classify(network, extract_features(network, images[others]))
        return (inside[:, None] < outside).mean(), (logits.argmax(1) == labels[others]).mean()

    first = trained(whole)
    before = told(first)
    return before, told(trained(rest, first)), told(trained(rest))


def main_of_membership(options):
    with np.load(Path(os.environ["BRAINCL_DATA"]) / "bloodmnist.npz") as held:
        images, labels = held["train_images"], held["train_labels"].ravel().astype(np.int64)
    rng = np.random.default_rng(options.seed)
    rows = np.array([membership(images, labels, rng, options.seed + n) for n in range(options.trials)])
    for name, (auc, accuracy) in zip(("trained", "slept again", "afresh"), rows.transpose(1, 2, 0), strict=True):
        spread = 1.96 * auc.std(ddof=1) / np.sqrt(len(auc))
        print(f"| {name} | {auc.mean():.3f} ± {spread:.3f} | {100 * accuracy.mean():.1f} % |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--membership", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.membership:
        main_of_membership(options)
        return
    print("| Task | Records | Recall | Direct | Sign | Direct, refitted | Sign, refitted | Lost | Said |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in SETS:
        with np.load(Path(os.environ["BRAINCL_DATA"]) / f"{name}.npz") as held:
            images, labels = held["train_images"], held["train_labels"].ravel().astype(np.int64)
        images = images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=-1)
        for records in RECORDS:
            rng, begun = np.random.default_rng([options.seed, records]), time.perf_counter()
            rows = [trial(images, labels, records, rng, options.seed + n) for n in range(options.trials)]
            found = [
                interval(sum(row[attack, how] for row in rows), options.trials)
                for how in ("without", "with")
                for attack in ATTACKS
            ]
            mean = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
            print(
                f"| {name} | {records} | {mean['recall']:.1f} dB | {' | '.join(found)} | {mean['lost']:.2f} dB | "
                f"{mean['said']:.2f} dB |",
                flush=True,
            )
            psnrs = ", ".join(f"{a} {h} {mean[a, h, 'psnr']:.1f}" for h in ("without", "with") for a in ATTACKS)
            print(f"<!-- PSNR of what was rebuilt: {psnrs} dB; {time.perf_counter() - begun:.0f} s -->", flush=True)


if __name__ == "__main__":
    main()
