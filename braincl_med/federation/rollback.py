"""Going back: an experiment is set to one of its former checkpoints, and learns from there again.

Hospitals are not asked. What their vaults hold of later tasks stays and is met again: a task that is encoded is
answered from the vault, as after an interruption. What `select` has thrown away does not come back.
"""

from dataclasses import dataclass
from pathlib import Path

from braincl_med.federation.checkpoint import (
    Checkpoint,
    folder_of,
    former_checkpoints,
    load_moments,
    load_weights,
    save_checkpoint,
)
from braincl_med.federation.extend import existing, held
from braincl_med.foundation.errors import ConfigError
from braincl_med.methods import METHODS
from braincl_med.methods.phase import Schedule
from braincl_med.records.alive import forget_sign
from braincl_med.records.database import STORE_NAME
from braincl_med.records.store import RunStore
from braincl_med.settings.loading import former_config
from braincl_med.streams.tasks import Registry

SELECT = "select"


@dataclass(frozen=True)
class Point:
    """A checkpoint to go back to.

    Attributes:
        task, phase, round: what the next run does first from there; the round counts from 1.
    """

    checkpoint: Checkpoint
    task: str
    phase: str
    round: int

    @property
    def name(self) -> str:
        """As `--to` takes it."""
        return self.task if not self.checkpoint.interrupted else f"{self.task}/{self.phase}/{self.round}"

    def is_called(self, text: str) -> bool:
        """Whether `TASK`, `TASK/PHASE` or `TASK/PHASE/ROUND` means this one; what is left out is the first."""
        task, _, rest = text.partition("/")
        phase, _, number = rest.partition("/")
        if not phase:
            return task == self.task and not self.checkpoint.interrupted
        return (task, phase, number or "1") == (self.task, self.phase, str(self.round))

    def __str__(self) -> str:
        return f"before {self.phase} round {self.round} of task '{self.task}'"


def points_of(state: Path, experiment: str) -> list[Point]:
    """The checkpoints that an experiment can go back to, oldest first.

    Raises:
        ConfigError: there is no such experiment.
        VaultError: one of them is damaged.
    """
    existing(state, experiment)
    return [_point(one) for one in former_checkpoints(folder_of(state, experiment))]


def go_back(state: Path, experiment: str, target: str) -> str:
    """Set an experiment back to a former checkpoint, and drop the records of what it is to do again.

    Returns:
        What will happen, and what hospitals do.

    Raises:
        ConfigError: there is no such experiment, or it keeps no such checkpoint.
        LockedError: a run or another change of the experiment is under way.
        VaultError: the former checkpoint is damaged; nothing was changed.
    """
    with held(state, experiment) as now:
        folder = folder_of(state, experiment)
        recorded = (state / STORE_NAME).is_file() and experiment in RunStore(state).experiments()
        points = points_of(state, experiment)
        later = [*(point.checkpoint for point in points), now]
        if not now.finished and _point(now).is_called(target):
            back, said = now, f"'{experiment}' stands there already, {_point(now)}"
        else:
            point = next((point for point in points if point.is_called(target)), None)
            if point is None:
                names = ", ".join(each.name for each in points) or "none"
                raise ConfigError(f"'{experiment}' keeps no checkpoint {target[:140]!r}; it keeps: {names}")
            back = _as_begun(point.checkpoint, next(one for one in later if one.place > point.checkpoint.place), now)
            said = f"'{experiment}' is back, {point}"
            weights = load_weights(folder, back) if back.weights else None
            moments = load_moments(folder, back) or None
            if recorded:
                # First: whatever ends this process from here on, the records no longer say that all is learned.
                RunStore(state).end(experiment, "stopped", f"going back, {point}, was interrupted: do it again")
            save_checkpoint(folder, back, weights, moments)
        forget_sign(folder)
        # Afterwards: if this process ends in between, going back once more, or the next run, puts the records right.
        if recorded:
            message = f"it was set back, {_point(back)}: `braincl run` with --resume goes on"
            RunStore(state).take_back(experiment, *back.place, message)
    return " ".join([f"{said}; `braincl run` with --resume goes on from it.", *_at_hospitals(back, now)])


def _as_begun(back: Checkpoint, following: Checkpoint, now: Checkpoint) -> Checkpoint:
    """A former checkpoint as the next run needs it.

    Its task goes on under the settings with which it was begun, by which hospitals have encoded it; tasks that were
    added since stay, for hospitals may have begun them.
    """
    registry = now.registry.dealt_until(now.task + 1, _hospitals(now))
    hospitals = _hospitals(following)
    tasks = tuple(task.over(None) if task.dealt == hospitals else task for task in registry.tasks)
    update = {"registry": Registry(tasks=tasks), "settings": following.settings, "changes": following.changes}
    return back.model_copy(update=update)


def _hospitals(checkpoint: Checkpoint) -> int:
    return former_config(checkpoint.settings, checkpoint.experiment).federation.hospitals


def _point(checkpoint: Checkpoint) -> Point:
    phase, number = _schedule(checkpoint)[checkpoint.position]
    return Point(checkpoint, checkpoint.registry.tasks[checkpoint.task].name, phase.name, number + 1)


def _schedule(checkpoint: Checkpoint) -> Schedule:
    config = former_config(checkpoint.settings, checkpoint.experiment)
    return METHODS[config.method].schedule(config)


def _at_hospitals(back: Checkpoint, now: Checkpoint) -> list[str]:
    """What hospitals do when they are asked again, in sentences."""
    said = ["Hospitals answer from their vaults what they have encoded since."]
    schedule = _schedule(back)
    selects = next((place for place, (phase, _) in enumerate(schedule) if phase.name == SELECT), None)
    task = back.registry.tasks[back.task].name
    if selects is not None and back.position <= selects and now.place > (back.task, selects):
        said.append(f"Of '{task}' they hold what they selected, and learn it from that alone.")
    mode = former_config(back.settings, back.experiment).privacy.mode
    if mode == "statistics":
        said.append("What they released before they answer with the same numbers, which costs no privacy anew.")
    if mode == "updates":
        said.append("Each update that they release again costs privacy again (`braincl privacy ledger`).")
    return said
