"""BrainCL and the methods it is compared with, behind one small interface."""

from braincl_med.methods.analytic import ANALYTIC
from braincl_med.methods.base import Method
from braincl_med.methods.braincl import BRAINCL
from braincl_med.methods.der import DER
from braincl_med.methods.ewc import EWC
from braincl_med.methods.examine import EXAMINE
from braincl_med.methods.finetune import FINETUNE
from braincl_med.methods.icarl import ICARL
from braincl_med.methods.joint import JOINT
from braincl_med.methods.mesu import MESU
from braincl_med.methods.mygo import MYGO
from braincl_med.methods.phase import Phase
from braincl_med.methods.replay import REPLAY, REPLAY_WEBP

METHODS: dict[str, Method] = {
    method.name: method
    for method in (BRAINCL, JOINT, FINETUNE, EWC, REPLAY, REPLAY_WEBP, ICARL, DER, MYGO, MESU, ANALYTIC)
}
"""Every method by the name that `method` takes in a configuration."""


def phases_of(method: Method) -> tuple[Phase, ...]:
    """All that hospitals may be asked for in an experiment: its schedule's phases, and an examination beside it."""
    return (*method.phases, EXAMINE)
