"""Replay: exemplars of earlier tasks are trained on together with the current task's raw scans.

The plainest of the exemplar methods (experience replay, e.g. Rebuffi et al. 2017 without distillation): cross-entropy
on the union, every scan equally often, within the budget of `sleep`. `replay-webp` keeps a lossy WebP file of each
exemplar instead, so that a byte pays for more of them: the simplest rival of a learned memory. Files are trained on
as they are decoded.

Deviations from a Replay in one place: every hospital chooses and keeps its own exemplars, and weights are averaged.
"""

import io
from functools import partial

import numpy as np
from PIL import Image

from braincl_med.cortex.cortex import Cortex
from braincl_med.messages import Order, Report
from braincl_med.methods.base import Images, Method, Site, train_remember_evaluate
from braincl_med.methods.exemplars import budget, in_order_of_choice, remember, with_exemplars
from braincl_med.methods.kept import Arrays
from braincl_med.streams.tasks import Scans

WEBP_ITEM = "webp"
LENGTH_BYTES = 4
"""Of the index, which is paid from the budget: without its length no file can be found."""


def to_webp(image: Images, quality: int) -> bytes:
    """A scan (h, w, 3) as a lossy WebP file, made with the slowest and smallest of Pillow's methods."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", quality=quality, method=6)
    return file.getvalue()


def from_webp(file: bytes) -> Images:
    """The scan (h, w, 3) of a WebP file."""
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def remember_webp(site: Site, order: Order) -> Report:
    """Keep WebP files of the task's exemplars, in order of choice, up to the first that the budget does not pay for.

    Returns:
        A report whose examples are the files kept.
    """
    scans = site.raw(order.registry, order.task)
    if not len(scans):
        return Report(site.name)
    settings = site.config.exemplars
    left = budget(settings, len(scans))
    files, labels = [], []
    for position in in_order_of_choice(site, order, scans, Cortex.of(order.weights, site.config.cortex)):
        file = to_webp(scans.images[position], settings.webp_quality)
        left -= len(file) + LENGTH_BYTES
        if left < 0:
            break
        files.append(file)
        labels.append(scans.labels[position])
    arrays: Arrays = {
        "files": np.frombuffer(b"".join(files), np.uint8),
        "lengths": np.array([len(file) for file in files], np.uint32),
        "labels": np.array(labels, np.uint16),
    }
    site.kept.save(WEBP_ITEM, order.task, arrays)
    return Report(site.name, examples=len(files))


def webp_exemplars(site: Site, task: int) -> Scans:
    """The decoded exemplars of a task, none when no file was kept of it."""
    arrays = site.kept.load(WEBP_ITEM, task)
    if arrays is None or not len(arrays["lengths"]):
        return Scans.none(site.config.stream.size)
    files = np.split(arrays["files"], np.cumsum(arrays["lengths"])[:-1])
    return Scans(np.stack([from_webp(file.tobytes()) for file in files]), arrays["labels"].astype(np.int64))


REPLAY = Method("replay", train_remember_evaluate, with_exemplars, phases={"remember": remember})
REPLAY_WEBP = Method(
    "replay-webp",
    train_remember_evaluate,
    partial(with_exemplars, exemplars=webp_exemplars),
    phases={"remember": remember_webp},
)
