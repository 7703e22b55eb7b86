"""Another network in the place of the shared one, taught by what the vaults hold: no training scan is read again.

A finished experiment whose settings name another network goes on from the first round of the last task's sleep, with
that network as it is drawn, or with its known start. Vaults, registry and records stay; the former network does not.
"""

from collections.abc import Sequence

from braincl_med.federation.checkpoint import Checkpoint
from braincl_med.federation.retrain import first_consolidation
from braincl_med.foundation.errors import ConfigError
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import Change


def swapped(found: Checkpoint, config: ExperimentConfig, changes: Sequence[Change]) -> Checkpoint:
    """The checkpoint from which another network learns all that was learned; it names no network yet.

    Args:
        found: between two tasks, with the settings of `config`.
        config: names the other network.
        changes: of settings, by which it is another.

    Raises:
        ConfigError: the method trains no network on memories alone, or the network is the one that was given up.
    """
    if all(any(change.undoes(told) for told in found.changes) for change in changes):
        raise ConfigError(
            f"'{config.name}' gave up that network for the one that it has, which would be lost "
            f"({'; '.join(map(str, changes))}): write the present settings of the cortex into its file or overrides, "
            "or begin an experiment of another name"
        )
    first = first_consolidation(config)
    if first is None:
        raise ConfigError(
            f"method {config.method} of '{config.name}' has no memories that could teach another network by "
            f"themselves, such as '{config.cortex.network}': take the former settings of the cortex, or begin an "
            "experiment of another name, which reads the scans"
        )
    return found.model_copy(
        update={
            "task": found.task - 1,
            "position": first,
            "start": "",
            "weights": "",
            "sha256": "",
            "operating": None,
            "moments": "",
            "moments_sha256": "",
        }
    )
