"""Finetune: the whole network is trained on the raw scans of the current task alone; the paper's lower bound."""

from braincl_med.methods.base import Material, Method, training_rounds
from braincl_med.streams.tasks import Registry, Scans


def _samples(material: Material, registry: Registry, task: int) -> Scans:
    return material.raw(registry, task)


FINETUNE = Method("finetune", training_rounds, _samples, recalls=False)
