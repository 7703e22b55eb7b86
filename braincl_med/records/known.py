"""The diagnoses that an experiment's network knows, weakest first, as its hospitals counted them."""

from braincl_med.evaluation.diagnosis import Diagnosis, diagnoses
from braincl_med.evaluation.tally import Tally
from braincl_med.evaluation.verdict import weakness
from braincl_med.records.schema import Experiment
from braincl_med.settings.federation import FederationConfig


def smallest_group(experiment: Experiment) -> int:
    """Of fewer scans than these nothing is told."""
    told = experiment.config.get("federation", {}).get("smallest-group")
    return FederationConfig().smallest_group if told is None else int(told)


def known_diagnoses(experiment: Experiment, tally: Tally) -> tuple[Diagnosis, ...]:
    """All that are known after the latest task; groups too small to be told of are withheld, and come first."""
    registry = experiment.registry
    tasks = [registry.numbers(task) for task in range(len(registry.tasks))]
    return tuple(sorted(diagnoses(tally, tasks, smallest_group(experiment)), key=weakness))
