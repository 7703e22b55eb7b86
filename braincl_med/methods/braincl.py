"""BrainCL: semi-parametric memory and wake-sleep consolidation (arXiv 2504.14727)."""

from braincl_med.methods.base import Method, Site, Steps, training_rounds
from braincl_med.settings.config import ExperimentConfig
from braincl_med.streams.tasks import Registry, Scans


def _steps(config: ExperimentConfig) -> Steps:
    """Encode, wake, select, sleep, evaluate; without sleep, working memory is neither selected from nor replayed."""
    wake = tuple(("wake", r) for r in range(config.wake.rounds)) if config.wake.enabled else ()
    sleep = (("select", 0), *training_rounds(config, "sleep")) if config.sleep.enabled else ()
    return (("encode", 0), *wake, *sleep, ("evaluate", 0))


def _samples(site: Site, registry: Registry, task: int) -> Scans:
    """Everything in long-term memory, all tasks up to `task` mixed."""
    return Scans.join(site.recalled(t) for t in range(task + 1))


BRAINCL = Method("braincl", _steps, _samples, recalls=True)
