"""Finetune: the whole network is trained on the raw scans of the current task alone; the paper's lower bound."""

from braincl_med.methods.base import Method, raw_scans
from braincl_med.methods.schedules import TRAINED, train_and_evaluate

FINETUNE = Method("finetune", TRAINED, train_and_evaluate, raw_scans)
