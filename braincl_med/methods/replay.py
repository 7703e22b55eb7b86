"""Replay: exemplars of earlier tasks are trained on together with the current task's raw scans.

The plainest of the exemplar methods (experience replay, e.g. Rebuffi et al. 2017 without distillation): cross-entropy
on the union, every scan equally often, within the budget of `sleep`. `replay-webp` keeps lossy WebP sheets of its
exemplars instead (`sheets`), so that a byte pays for more of them: the simplest rival of a learned memory. They are
trained on as they are decoded.

Deviations from a Replay in one place: every hospital chooses and keeps its own exemplars, and weights are averaged.
"""

from functools import partial

from braincl_med.methods.base import Method, train_remember_evaluate
from braincl_med.methods.exemplars import remember, with_exemplars

REPLAY = Method("replay", train_remember_evaluate, with_exemplars, phases={"remember": remember})
REPLAY_WEBP = Method(
    "replay-webp",
    train_remember_evaluate,
    partial(with_exemplars, codec="webp"),
    phases={"remember": partial(remember, codec="webp")},
)
