"""Exemplars: scans of a task that a hospital keeps and trains on again at every later task.

    remember ─► features of the network just trained ─► first choice of every class, second choice of every class, …
             ─► `per-class` of each, or as many as `bytes-per-scan` pays for ─► <vault>/kept/exemplars-<task>
                                                                       as lossy sheets: <vault>/kept/webp-<task>

Which scans are chosen is decided by the rule of `phases.select`; herding is iCaRL's (Rebuffi et al. 2017, alg. 4). As
tasks bring classes of their own, a class is chosen from once: exemplars are not thinned out when classes are added,
as iCaRL does to stay within one total. Exemplars never leave their hospital, so each hospital chooses from its own
scans and keeps its own number of each class.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from braincl_med.cortex.cortex import Cortex, Weights, extract_features
from braincl_med.foundation.arrays import Images, Positions
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.kept import Arrays, Kept
from braincl_med.methods.phase import Site
from braincl_med.methods.sheets import from_sheets, to_sheets
from braincl_med.phases.select import ranked
from braincl_med.settings.config import CortexConfig
from braincl_med.settings.methods import Codec, ExemplarConfig
from braincl_med.streams.tasks import Registry, Scans

ITEMS: dict[Codec, str] = {"raw": "exemplars", "webp": "webp"}
LENGTH_BYTES = 4
"""Of the index, which is paid from the budget: without its length no sheet can be found."""


def remember(
    site: Site,
    order: Order,
    network: Callable[[Weights, CortexConfig], Cortex] = Cortex.of,
    codec: Codec | None = None,
) -> Report:
    """Keep exemplars of the task's raw scans, in place of those kept of it before.

    Args:
        site: the hospital.
        order: with the weights of the network just trained.
        network: the network of these weights.
        codec: how they are kept, by default as `exemplars-codec` says.

    Returns:
        A report whose examples are the exemplars kept.
    """
    scans, settings = site.raw(order.registry, order.task), site.config.exemplars
    if not len(scans):
        return Report(site.name)
    chosen = scans.take(in_order_of_choice(site, order, scans, network(order.weights, site.config.cortex)))
    paid = budget(settings, len(scans))
    codec = codec or settings.codec
    if codec == "raw":
        kept = chosen.take(np.cumsum(raw_bytes(chosen)) <= paid)
        site.kept.save(ITEMS[codec], order.task, packed(kept))
        return Report(site.name, examples=len(kept))
    count = most_that_fit(chosen.images, settings.webp_quality, paid)
    sheets = to_sheets(chosen.images[:count], settings.webp_quality)
    arrays: Arrays = {
        "files": np.frombuffer(b"".join(sheets), np.uint8),
        "lengths": np.array([len(sheet) for sheet in sheets], np.uint32),
        "labels": chosen.labels[:count].astype(np.uint16),
    }
    site.kept.save(ITEMS[codec], order.task, arrays)
    return Report(site.name, examples=count)


def exemplars(site: Site, task: int, codec: Codec | None = None) -> Scans:
    """The exemplars kept of a task, as they are decoded; none when nothing was kept."""
    codec, size = codec or site.config.exemplars.codec, site.config.stream.size
    arrays = site.kept.load(ITEMS[codec], task)
    if arrays is None:
        return Scans.none(size)
    if codec == "raw":
        return unpacked(arrays)
    sheets = np.split(arrays["files"], np.cumsum(arrays["lengths"])[:-1]) if len(arrays["lengths"]) else []
    labels = arrays["labels"].astype(np.int64)
    return Scans(from_sheets([sheet.tobytes() for sheet in sheets], len(labels), size), labels)


def exemplar_count(kept: Kept) -> int:
    """How many exemplars are kept, of whatever task and codec."""
    arrays = [kept.load(item, task) or {} for item in ITEMS.values() for task in kept.tasks(item)]
    return sum(len(array) for held in arrays for name, array in held.items() if name.endswith("labels"))


def with_exemplars(site: Site, registry: Registry, task: int, codec: Codec | None = None) -> Scans:
    """The raw scans of `task` and the exemplars of all earlier tasks: what the whole network is trained on."""
    return Scans.join([site.raw(registry, task), *(exemplars(site, earlier, codec) for earlier in range(task))])


def most_that_fit(images: Images, quality: int, paid: float) -> int:
    """How many of the first images fit on sheets of at most `paid` bytes, found by bisection."""
    fits, fails = 0, len(images) + 1
    if paid == np.inf:
        return len(images)
    while fails - fits > 1:
        count = (fits + fails) // 2
        spent = sum(len(sheet) + LENGTH_BYTES for sheet in to_sheets(images[:count], quality))
        fits, fails = (count, fails) if spent <= paid else (fits, count)
    return fits


def in_order_of_choice(site: Site, order: Order, scans: Scans, cortex: Cortex) -> Positions:
    """The positions that may be kept of a task's scans: each class's first choice, then each second, and so on.

    Whoever keeps the beginning of this order shares evenly by classes; what a small class leaves over goes to the
    others. Without a byte budget, a class has no more than `per-class` choices.
    """
    settings = site.config.exemplars
    features = extract_features(cortex, scans.images).numpy().astype(np.float64)
    turns: list[tuple[int, int, int]] = []
    for label in np.unique(scans.labels).tolist():
        mine = np.flatnonzero(scans.labels == label)
        count = len(mine) if settings.bytes_per_scan is not None else min(settings.per_class, len(mine))
        choices = mine[ranked(features[mine], count, settings.rule, [site.seed(order), label])]
        turns += [(turn, label, position) for turn, position in enumerate(choices.tolist())]
    return np.array([position for _, _, position in sorted(turns)], np.int64)


def budget(settings: ExemplarConfig, scans: int) -> float:
    """Bytes for the exemplars of a task with `scans` training scans here; no limit without `bytes-per-scan`."""
    return np.inf if settings.bytes_per_scan is None else settings.bytes_per_scan * scans


def is_grey(scans: Scans) -> npt.NDArray[np.bool_]:
    """(n,) whether a scan's three channels are equal."""
    grey: npt.NDArray[np.bool_] = (scans.images == scans.images[..., :1]).all(axis=(1, 2, 3))
    return grey


def raw_bytes(scans: Scans) -> npt.NDArray[np.int64]:
    """(n,) bytes of each raw scan: height × width × channels, one channel when it is grey."""
    pixels = scans.images[0, ..., 0].size
    return np.where(is_grey(scans), np.int64(pixels), np.int64(3 * pixels))


def packed(scans: Scans) -> Arrays:
    """Scans as uint8 arrays, grey ones with one channel; uncompressed, two bytes a label beside them."""
    grey, labels = is_grey(scans), scans.labels.astype(np.uint16)
    return {
        "grey": scans.images[grey][..., 0],
        "grey-labels": labels[grey],
        "colour": scans.images[~grey],
        "colour-labels": labels[~grey],
    }


def unpacked(arrays: Arrays) -> Scans:
    """The inverse of `packed`, but for the order: grey scans first."""
    grey = np.repeat(arrays["grey"][..., None], 3, axis=-1)
    images = np.concatenate([grey, arrays["colour"]]).astype(np.uint8)
    return Scans(images, np.concatenate([arrays["grey-labels"], arrays["colour-labels"]]).astype(np.int64))
