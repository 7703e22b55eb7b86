"""What attackers make of vaults, networks and updates: the tables of docs/results/privacy.md.

    export BRAINCL_DATA=/folder/of/npz/files
    python benchmarks/privacy_attacks.py                       # all, some 15 minutes of one core
    python benchmarks/privacy_attacks.py thief update          # these alone
    python benchmarks/privacy_attacks.py --report              # print what is there

Each part (an attack on one data set, a model) is a file below the state folder and is not measured again.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from braincl_med.cortex.cortex import Cortex, scans_to_tensor
from braincl_med.foundation.files import write_whole
from braincl_med.foundation.seeding import seed_everything, seed_for
from braincl_med.memory.guide import train_guide
from braincl_med.memory.module import complete, fit
from braincl_med.memory.training import as_tensor
from braincl_med.phases.sleep import calibrate
from braincl_med.privacy.attacks.inversion import gradients, invert
from braincl_med.privacy.attacks.membership import Membership, halves, lira
from braincl_med.privacy.attacks.shadows import margins, memory_shadows, nearest_recall, rebuilt
from braincl_med.privacy.attacks.thief import (
    Borrowed,
    Decoding,
    decode_borrowed,
    decode_by_both,
    decode_by_moments,
    decode_by_pairs,
)
from braincl_med.privacy.attacks.update import judged
from braincl_med.settings.config import DATA_VARIABLE, CortexConfig
from braincl_med.settings.memory import LinearMemory
from braincl_med.streams.tasks import Scans

Row = dict[str, Any]

KINDS = {"blood": ("bloodmnist", (0, 1)), "blood, four classes": ("bloodmnist", (0, 1, 4, 5)),
         "pneumonia": ("pneumoniamnist", (0, 1))}  # fmt: skip
SCANS = 300
"""Of the vault that is stolen, as of another hospital's, and of a public set."""
FEWER = 100
MEMBERS = 200
TARGETS = 12
NETWORK_SCANS = 800
NETWORKS = {"raw": 280, "raw, shorter": 140, "recalls": 280}
"""What shared networks are trained on, and for how many steps: 280 are 40 passes."""
INVERTED, SECONDS = 4, 20
EVER = 1e18
T_11 = 2.201
"""Of Student's distribution with 11 degrees of freedom: two-sided 95 %."""


def load(dataset: str, classes: tuple[int, ...], split: str = "train") -> Scans:
    """Scans of these classes, in an order of their own."""
    with np.load(Path(os.environ[DATA_VARIABLE]) / f"{dataset}.npz") as file:
        images, labels = file[f"{split}_images"], file[f"{split}_labels"].ravel().astype(np.int64)
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
    order = np.random.default_rng(0).permutation(np.flatnonzero(np.isin(labels, classes)))
    return Scans(images[order], labels[order])


def cut(scans: Scans, *sizes: int) -> list[Scans]:
    """Parts of these sizes that share no scan."""
    edges = np.cumsum([0, *sizes])
    return [scans.take(np.arange(a, b)) for a, b in pairwise(edges)]


def thief(kind: str, count: int, seed: int) -> list[Row]:
    """Every way to decode stolen cues."""
    stolen, other, public = cut(load(*KINDS[kind]), count, count, count)
    memories = [fit(s.images, LinearMemory(), seed + i, s.labels) for i, s in enumerate((stolen, other, public))]
    cues = [module.encode(s.images) for module, s in zip(memories, (stolen, other, public), strict=True)]
    shape, own = memories[0].completion.shape, np.arange(count)
    made = [Decoding.of("own network", complete(memories[0].completion, cues[0]), stolen.images, own)]
    for how, module, theirs in (
        ("another hospital's network", memories[1], cues[1]),
        ("public network", memories[2], cues[2]),
    ):
        held = Borrowed(module.completion, theirs)
        if module.completion.shape.channels != shape.channels:
            continue
        made.append(Decoding.of(how, decode_borrowed(cues[0], shape, held), stolen.images, own))
        tried = [
            Decoding.of(f"{how}, signs guessed", images, stolen.images, own)
            for images in decode_by_moments(cues[0], shape, held, seed)
        ]
        made.append(max(tried, key=lambda one: one.psnr))
    order = np.random.default_rng(seed).permutation(count)
    few, others = order[:10], order[10:]
    public_memory = Borrowed(memories[2].completion, cues[2])
    images = decode_by_both(cues[0], stolen.images[few], few, shape, public_memory)[others]
    made.append(Decoding.of("public network and 10 known pairs", images, stolen.images, others))
    for pairs in (1, 10, 20, 50):
        known, rest = order[:pairs], order[pairs:]
        images = decode_by_pairs(cues[0], stolen.images[known], known, shape)[rest]
        made.append(Decoding.of(f"{pairs} known pairs", images, stolen.images, rest))
    return [one.as_json() for one in made]


def memory_membership(kind: str, seed: int) -> list[Row]:
    """LiRA on a vault and on its completion network alone."""
    members, strangers = cut(load(*KINDS[kind]), MEMBERS, MEMBERS)
    pool = Scans.join([members, strangers])
    inside_target = np.arange(2 * MEMBERS) < MEMBERS
    module = fit(members.images, LinearMemory(), seed_for(seed, "target"), members.labels)
    recalls = complete(module.completion, module.encode(members.images))
    networks, vaults, inside = memory_shadows(pool.images, pool.labels, LinearMemory(), seed, EVER, most=TARGETS)
    figures = {"vault": (nearest_recall(recalls, pool.images), vaults),
               "completion network alone": (rebuilt(module.completion, pool.images), networks)}  # fmt: skip
    return [
        {"of": what, **Membership(lira(figure, shadows, inside), inside_target, pool.labels).as_json()}
        for what, (figure, shadows) in figures.items()
    ]


def network_model(trained_on: str, number: int, seed: int) -> list[Row]:
    """One of the shared networks: margins of the pool, and accuracy on scans of the test split."""
    kind = KINDS["blood, four classes"]
    pool = load(*kind).take(np.arange(NETWORK_SCANS))
    test, truth = load(*kind, "test"), {label: row for row, label in enumerate(kind[1])}
    rows, test_rows = (np.array([truth[label] for label in s.labels.tolist()]) for s in (pool, test))
    mine = halves(NETWORK_SCANS, TARGETS, seed)[number]
    images, mine_rows = pool.images[mine], rows[mine]
    if trained_on == "recalls":
        module = fit(images, LinearMemory(), seed_for(seed, "memory", number), mine_rows)
        images = complete(module.completion, module.encode(images))
    seed_everything(seed_for(seed, "network", number))
    network = train_guide(images, mine_rows, 3, NETWORKS[trained_on])
    with torch.no_grad():
        of_pool, of_test = (network(as_tensor(s.images, 3)).numpy() for s in (pool, test))
    accuracy = float(np.mean([(of_test.argmax(1) == test_rows)[test_rows == c].mean() for c in range(len(truth))]))
    return [{"accuracy": accuracy, "margins": margins(of_pool, rows).tolist(), "labels": rows.tolist()}]


def resnet18(seed: int) -> Cortex:
    """As it begins, normalised by statistics of scans: without these its answers are one-hot and tell nothing."""
    torch.manual_seed(seed)
    cortex = Cortex(8, CortexConfig(stem="3x3-stride2"))
    calibrate(cortex, load("bloodmnist", tuple(range(8))).take(np.arange(512)), 128)
    return cortex.eval()


def update(seed: int) -> list[Row]:
    """Features and classes read off a classifier's gradient."""
    cortex = resnet18(seed)
    chosen = load("bloodmnist", tuple(range(8))).take(np.arange(128))
    with torch.no_grad():
        features = cortex.features(scans_to_tensor(chosen.images))
    rows = []
    for batch, steps_of in ((1, False), (2, False), (8, False), (32, False), (1, True)):
        cuts = [slice(i, i + batch) for i in range(0, len(chosen), batch)]
        told = [gradients(cortex.classifier, features[c], torch.from_numpy(chosen.labels[c])) for c in cuts]
        updates = [(w.detach().double().numpy(), b.detach().double().numpy()) for w, b in told]
        if steps_of:
            updates = [(masked(w, seed + i), masked(b, -seed - i)) for i, (w, b) in enumerate(updates)]
        mine, labels = [features[c].double().numpy() for c in cuts], [chosen.labels[c] for c in cuts]
        rows.append({"masked": steps_of, **judged(batch, updates, mine, labels).as_json()})
    return rows


def masked(values: np.ndarray, seed: int) -> np.ndarray:
    """As a server sees one hospital's numbers under masks: fixed point plus a uniform number modulo 2^32."""
    ring = np.round(values * 2**16).astype(np.int64)
    mask = np.random.default_rng(abs(seed)).integers(0, 2**32, values.shape)
    return ((ring + mask) % 2**32 - 2.0**31) / 2**16


def inversion(network: str, attack: str, number: int, seed: int) -> list[Row]:
    """One scan rebuilt from a whole network's gradients, with SECONDS of one core."""
    torch.manual_seed(seed)
    if network == "small":
        layers: list[nn.Module] = []
        for before, after, stride in ((3, 12, 2), (12, 12, 2), (12, 12, 1)):
            layers += [nn.Conv2d(before, after, 5, stride, 2), nn.Sigmoid()]
        model: nn.Module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(588, 8))
        for parameter in model.parameters():
            nn.init.uniform_(parameter, -0.5, 0.5)
    else:
        model = resnet18(seed)
    chosen = load("bloodmnist", tuple(range(8))).take(np.array([number]))
    scan = scans_to_tensor(chosen.images)[0]
    observed = gradients(model, scan[None], torch.from_numpy(chosen.labels))
    until = time.monotonic() + SECONDS
    made = invert(model, observed, int(chosen.labels[0]), (3, 28, 28), until, attack)  # type: ignore[arg-type]
    return [made.judged(scan)]


def plan(seed: int) -> dict[str, dict[str, Callable[[], list[Row]]]]:
    """All parts by attack and by the name of their file."""
    inversions = [(n, a, i) for n in ("small", "resnet18") for a in ("squared", "cosine") for i in range(INVERTED)]
    models = [(trained, number) for trained in NETWORKS for number in range(TARGETS)]
    return {
        "thief": {
            f"thief_{kind}_{count}": lambda kind=kind, count=count: thief(kind, count, seed)  # type: ignore[misc]
            for kind in ("blood", "blood, four classes", "pneumonia")
            for count in (SCANS, FEWER)
        },
        "memories": {
            f"memories_{kind}": lambda kind=kind: memory_membership(kind, seed)  # type: ignore[misc]
            for kind in ("blood", "pneumonia")
        },
        "networks": {
            f"networks_{on}_{number}": lambda on=on, number=number: network_model(on, number, seed)  # type: ignore[misc]
            for on, number in models
        },
        "update": {"update": lambda: update(seed)},
        "inversion": {
            f"inversion_{n}_{a}_{i}": lambda n=n, a=a, i=i: inversion(n, a, i, seed)  # type: ignore[misc]
            for n, a, i in inversions
        },
    }


def tables(found: dict[str, list[Row]], seed: int) -> Iterator[str]:
    """Markdown, one table an attack."""
    for name, rows in found.items():
        if name.startswith("thief_"):
            _, kind, count = name.split("_")
            yield f"\nStolen cues of {count} scans, {kind}:\n"
            yield "| decoded with | dB | matched | 95 % | chance |\n|---|---|---|---|---|"
            for row in rows:
                yield (
                    f"| {row['how']} | {row['psnr']:.1f} | {_percent(row['matched'])} | {_interval(row['interval'])} "
                    f"| {_percent(row['chance'])} |"
                )
    head = "AUC | 95 % | found at 1 % false | 95 % | at 0.1 % | AUC by class |"
    if any(name.startswith("memories_") for name in found):
        yield f"\nMembership in memories of {MEMBERS} scans, {TARGETS} shadows:\n"
        yield f"| data | of | {head}\n" + "|---" * 8 + "|"
    for name, rows in found.items():
        for row in rows if name.startswith("memories_") else ():
            yield f"| {name.split('_')[1]} | {row['of']} | {_membership(row)} |"
    yield from _networks(found, seed)
    for row in found.get("update", ()):
        if row["batch"] == 1 and not row["masked"]:
            yield "\nOne update of the classifier (ResNet-18, 8 classes):\n"
            yield "| batch | updates | median error of features | read exactly | class right |\n|---|---|---|---|---|"
        yield (
            f"| {row['batch']}{', masked' if row['masked'] else ''} | {row['updates']} | {row['median-error']:.1e} "
            f"| {_percent(row['exact'])} | {_percent(row['labels'])} |"
        )
    groups: dict[tuple[str, str], list[Row]] = {}
    for name, rows in found.items():
        if name.startswith("inversion_"):
            _, network, attack, _ = name.split("_")
            groups.setdefault((network, attack), []).extend(rows)
    if groups:
        yield f"\nImages from one update, {SECONDS} s a scan:\n"
        yield "| network | attack | scans | dB, each | flat image, each | steps |\n|---|---|---|---|---|---|"
    for (network, attack), rows in groups.items():
        told, flat = (", ".join(f"{row[key]:.1f}" for row in rows) for key in ("psnr", "flat"))
        steps = f"{min(r['steps'] for r in rows)} to {max(r['steps'] for r in rows)}"
        yield f"| {network} | {attack} | {len(rows)} | {told} | {flat} | {steps} |"


def _networks(found: dict[str, list[Row]], seed: int) -> Iterator[str]:
    """Every network in turn is the target, and the others are its shadows."""
    inside = halves(NETWORK_SCANS, TARGETS, seed)
    areas: dict[str, np.ndarray] = {}
    for trained in NETWORKS:
        rows = [found[name][0] for n in range(TARGETS) if (name := f"networks_{trained}_{n}") in found]
        if len(rows) < TARGETS:
            continue
        if trained == "raw":
            yield f"\nMembership in a small network, {NETWORK_SCANS // 2} scans of four classes, {TARGETS} models:\n"
            yield "| trained on | accuracy | AUC | 95 % over models | found at 1 % false | at 0.1 % | AUC by class |"
            yield "|---" * 7 + "|"
        told, labels = np.array([row["margins"] for row in rows]), np.array(rows[0]["labels"])
        others = [np.delete(np.arange(TARGETS), n) for n in range(TARGETS)]
        judgements = [
            Membership(lira(told[n], told[o], inside[o]), inside[n], labels).as_json() for n, o in enumerate(others)
        ]
        areas[trained] = np.array([one["auc"] for one in judgements])
        rates = [np.mean([one["found"][i]["found"] for one in judgements]) for i in (0, 1)]
        classes = [np.mean([one["classes"][c]["auc"] for one in judgements]) for c in range(labels.max() + 1)]
        yield (
            f"| {trained} | {_percent(np.mean([row['accuracy'] for row in rows]))} | {areas[trained].mean():.3f} "
            f"| {_over_models(areas[trained])} | {_percent(rates[0])} "
            f"| {_percent(rates[1])} | {', '.join(f'{c:.2f}' for c in classes)} |"
        )
    for trained in sorted(areas.keys() - {"recalls"}) if "recalls" in areas else ():
        less = areas[trained] - areas["recalls"]
        yield f"\nAUC {trained} less AUC recalls, model by model: {less.mean():.3f} ({_over_models(less)})."


def _over_models(values: np.ndarray) -> str:
    """The 95 % interval of a mean over models, by Student's t; models share scans, so it is a little too narrow."""
    reach = T_11 * values.std(ddof=1) / sqrt(TARGETS)
    return f"{values.mean() - reach:.3f} to {values.mean() + reach:.3f}"


def _membership(row: Row) -> str:
    (one, tenth), (low, high) = row["found"], row["interval"]
    classes = ", ".join(f"{part['auc']:.2f}" for part in row["classes"])
    return (
        f"{row['auc']:.3f} | {low:.3f} to {high:.3f} | {_percent(one['found'])} | {_interval(one['interval'])} "
        f"| {_percent(tenth['found'])} | {classes}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(ends: list[float]) -> str:
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*", help=f"of {', '.join(plan(0))}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, default=Path(".braincl/privacy-attacks"), help="of finished parts")
    parser.add_argument("--report", action="store_true", help="measure nothing, print what is there")
    arguments = parser.parse_args()
    parts = plan(arguments.seed)
    if unknown := sorted({*arguments.attacks} - {*parts}):
        parser.error(f"there is no attack '{unknown[0]}', expected one of {', '.join(parts)}")
    if DATA_VARIABLE not in os.environ and not arguments.report:
        parser.error(f"set {DATA_VARIABLE} to the folder of MedMNIST's npz files")
    found: dict[str, list[Row]] = {}
    for attack in arguments.attacks or parts:
        for name, measure in parts[attack].items():
            path = arguments.state / f"{name.replace(', ', '-').replace(' ', '-')}-seed{arguments.seed}.json"
            if path.exists():
                found[name] = json.loads(path.read_text())
            elif not arguments.report:
                started = time.monotonic()
                found[name] = measure()
                write_whole(path, json.dumps(found[name]).encode())
                print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    print("\n".join(tables(found, arguments.seed)))


if __name__ == "__main__":
    main()
