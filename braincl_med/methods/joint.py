"""Joint: the whole network is trained on the raw scans of all tasks so far; the paper's upper bound ("Oracle").

It keeps every raw scan, which is what the project exists to avoid: a yardstick, not a deployment.
"""

from braincl_med.methods.base import Method
from braincl_med.methods.phase import Site
from braincl_med.methods.schedules import TRAINED, train_and_evaluate
from braincl_med.streams.tasks import Registry, Scans


def _samples(site: Site, registry: Registry, task: int) -> Scans:
    return Scans.join(site.raw(registry, t) for t in range(task + 1))


JOINT = Method("joint", TRAINED, train_and_evaluate, _samples)
