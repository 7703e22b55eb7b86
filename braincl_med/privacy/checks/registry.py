"""Names in a vault that the run store of its experiment does not know: of the right form, and yet anybody's."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from braincl_med.federation.checkpoint import folder_of, load_checkpoint
from braincl_med.foundation.errors import BrainclError
from braincl_med.methods.braincl import key_at
from braincl_med.privacy.search import shown
from braincl_med.records.store import RunStore
from braincl_med.settings.loading import former_config
from braincl_med.streams.tasks import Registry
from braincl_med.vault.cuefile import Header


@dataclass(frozen=True)
class Known:
    """What the server's records say of an experiment.

    Attributes:
        registry: its tasks and classes.
        keys: for each task those of all its hospitals by hospital; empty where they cannot be computed.
    """

    registry: Registry
    keys: dict[int, dict[str, set[str]]]

    def strange(self, header: Header, hospital: str) -> Iterator[str]:
        """What a cue file says that the records do not know, in words that follow its name."""
        tasks = self.registry.tasks
        if header.task >= len(tasks):
            yield f"is of task {header.task}, the run store knows {len(tasks)}"
            return
        if header.task_name != tasks[header.task].name:
            yield f"has task name {shown(header.task_name)}, the run store knows {shown(tasks[header.task].name)}"
        classes = dict(zip(self.registry.numbers(header.task), tasks[header.task].classes, strict=True))
        for shard in header.shards:
            expected = classes[shard.label].key if shard.label in classes else "no such class"
            if shard.dataset_label != expected:
                yield f"has class {shard.label} named {shown(shard.dataset_label)}, the run store knows {expected}"
        keys = self.keys.get(header.task, {})
        owner = next((name for name, mine in keys.items() if header.key in mine), None)
        if owner not in (None, hospital):
            yield f"is the memory of {shown(owner or '')}, this is {shown(hospital)}"
        elif keys and owner is None:
            yield f"has key {shown(header.key)}, which does not follow from the experiment's settings"


def known(state: Path, experiment: str, hospital: str) -> Known | str:
    """What the records below a state root say of an experiment, or why they say nothing.

    Args:
        state: with a run store.
        experiment: its name.
        hospital: the name of the audited vault.

    Raises:
        RecordsError: there is no run store, or it is damaged.
    """
    store = RunStore(state)
    if experiment not in store.experiments():
        return f"the run store knows no experiment {shown(experiment)}"
    recorded = store.experiment(experiment)
    try:
        checkpoint = load_checkpoint(folder_of(state, experiment))
        config = former_config(recorded.config, experiment)
    except BrainclError:
        return Known(recorded.registry, {})
    # Settings that changed between tasks are those of the last one, and so would the keys be.
    if checkpoint is None or checkpoint.changes or "memory" not in config.facts.sections:
        return Known(recorded.registry, {})
    count = config.federation.hospitals
    names = {hospital, *(f"site-{number}" for number in range(count))}
    keys = {
        task: {
            name: {key_at(config, name, share, recorded.registry, task) for share in range(count)} for name in names
        }
        for task in range(len(recorded.registry.tasks))
    }
    return Known(recorded.registry, keys)
