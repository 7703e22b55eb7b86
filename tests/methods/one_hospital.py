"""A hospital with given scans, for tests of a method's phases without a whole experiment."""

import numpy as np

from braincl_med.federation.hospital import Hospital
from braincl_med.messages.order import Order
from braincl_med.streams.tasks import ClassSpec, Registry, Scans, TaskSpec
from braincl_med.vault.vault import Vault
from tests.federation.experiments import tiny


def noise(labels, seed=0, grey=False):
    """Scans of noise with these class numbers."""
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 28, 28, 1 if grey else 3)).astype(np.uint8)
    return Scans(np.repeat(images, 3, axis=-1) if grey else images, np.array(labels, np.int64))


def smooth(labels, seed=0):
    """Colour scans of broad stripes, each class with its own period: what a codec for photographs is made for."""
    random = np.random.default_rng(seed)
    phases = random.uniform(0, 6, (len(labels), 1, 1, 3))
    periods = 8 + 4 * np.array(labels).reshape(-1, 1, 1, 1)
    waves = np.sin(2 * np.pi * np.arange(28).reshape(1, 1, 28, 1) / periods + phases)
    images = (
        128 + 80 * np.broadcast_to(waves, (len(labels), 28, 28, 3)) + random.normal(0, 3, (len(labels), 28, 28, 3))
    )
    return Scans(images.clip(0, 255).astype(np.uint8), np.array(labels, np.int64))


class Given:
    def __init__(self, tasks):
        self.tasks = tasks

    def scans(self, registry, task, split):
        return self.tasks[task]


def hospital_with(folder, tasks, name="site-0", **overrides):
    """The hospital `name` whose training scans of each task are `tasks`."""
    config = tiny(folder, **overrides)
    return Hospital(name, config, Given(tasks), Vault(folder / name))


def order_for(phase, task, weights, classes=(3, 2), number=0):
    """An order of an experiment whose tasks have this many classes."""
    tasks = (
        TaskSpec(
            name=f"task-{t}", classes=tuple(ClassSpec(dataset=f"set-{t}", label=i, name="") for i in range(count))
        )
        for t, count in enumerate(classes)
    )
    return Order("tiny", task, phase, number, Registry(tasks=tuple(tasks)), weights)
