"""Replay: exemplars of earlier tasks are trained on together with the current task's raw scans.

The plainest of the exemplar methods (experience replay, e.g. Rebuffi et al. 2017 without distillation): cross-entropy
on the union, every scan equally often, within the budget of `sleep`. `replay-webp` keeps lossy WebP sheets of its
exemplars instead (`sheets`), so that a byte pays for more of them: the simplest rival of a learned memory. They are
trained on as they are decoded.

Deviations from a Replay in one place: every hospital chooses and keeps its own exemplars, and weights are averaged.
"""

from functools import partial

from braincl_med.methods.base import Method
from braincl_med.methods.exemplars import remember, with_exemplars
from braincl_med.methods.phase import Phase
from braincl_med.methods.schedules import TRAINED, train_then
from braincl_med.methods.training import TRAIN
from braincl_med.settings.methods import Codec


def _replay(name: str, codec: Codec | None) -> Method:
    """Replay under a name, its exemplars kept by a codec; by default the configuration's."""
    keep = Phase("remember", partial(remember, codec=codec))
    return Method(
        name,
        (*TRAINED, keep),
        lambda config: train_then(config, TRAIN, keep),
        partial(with_exemplars, codec=codec),
    )


REPLAY = _replay("replay", None)
REPLAY_WEBP = _replay("replay-webp", "webp")
