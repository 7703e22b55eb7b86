"""A consolidation asked for again: the shared network is trained once more on what the vaults hold now.

The checkpoint is set back to the first round of the last task's sleep, so the next run does that sleep, and all that
follows it, from the network as it is and from memory alone. No scan is read but those of evaluation.
"""

from pathlib import Path

from braincl_med.federation.checkpoint import folder_of, save_checkpoint
from braincl_med.federation.extend import held
from braincl_med.foundation.errors import ConfigError
from braincl_med.methods import METHODS
from braincl_med.methods.phase import WEIGHTS
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import former_config


def queue_consolidation(state: Path, experiment: str) -> str:
    """Let the next run of an experiment sleep again, over the last task that is learned or begun.

    Returns:
        One sentence on what will happen.

    Raises:
        ConfigError: there is no such experiment, it has learned nothing, or its method does not sleep on memories.
        LockedError: a run or another change of the experiment is under way.
    """
    with held(state, experiment) as checkpoint:
        config = former_config(checkpoint.settings, experiment)
        asleep = first_consolidation(config)
        if asleep is None:
            raise ConfigError(
                f"method {config.method} of '{experiment}' does not train its network on memories alone: begin an "
                "experiment of another name without what was erased"
            )
        if checkpoint.task == 0 and checkpoint.position == 0:
            raise ConfigError(f"'{experiment}' has learned nothing yet: there is no network to train again")
        task = checkpoint.task if checkpoint.position else checkpoint.task - 1
        position = min(checkpoint.position or asleep, asleep)
        name = checkpoint.registry.tasks[task].name
        if (task, position) == (checkpoint.task, checkpoint.position):
            return f"'{experiment}' sleeps on its memories in task '{name}' anyway when its run goes on (--resume)"
        save_checkpoint(
            folder_of(state, experiment), checkpoint.model_copy(update={"task": task, "position": position})
        )
        return f"'{experiment}' will sleep again after task '{name}': `braincl run` with --resume does it"


def first_consolidation(config: ExperimentConfig) -> int | None:
    """The position of the first round that trains the whole network on memories alone; None where nothing does."""
    method = METHODS[config.method]
    if not method.recalls:
        return None
    schedule = method.schedule(config)
    return next((place for place, (phase, _) in enumerate(schedule) if phase.answer is WEIGHTS), None)
