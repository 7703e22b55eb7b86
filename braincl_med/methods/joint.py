"""Joint: the whole network is trained on the raw scans of all tasks so far; the paper's upper bound ("Oracle").

It keeps every raw scan, which is what the project exists to avoid: a yardstick, not a deployment.
"""

from braincl_med.methods.base import Material, Method, train_and_evaluate
from braincl_med.streams.tasks import Registry, Scans


def _samples(material: Material, registry: Registry, task: int) -> Scans:
    return Scans.join(material.raw(registry, t) for t in range(task + 1))


JOINT = Method("joint", train_and_evaluate, _samples, recalls=False)
