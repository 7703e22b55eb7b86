"""BrainCL and the methods it is compared with, behind one small interface."""

from braincl_med.methods.base import Method
from braincl_med.methods.braincl import BRAINCL
from braincl_med.methods.finetune import FINETUNE
from braincl_med.methods.joint import JOINT

METHODS: dict[str, Method] = {method.name: method for method in (BRAINCL, FINETUNE, JOINT)}
"""Every method by the name that `method` takes in a configuration."""
