"""How an experiment stands now: whether it runs, at which step, with whom, its last sign of life, the time to go."""

from collections.abc import Sequence
from dataclasses import dataclass

from braincl_med.foundation.places import server_folder
from braincl_med.records.alive import Sign, read_sign, seconds_since
from braincl_med.records.schema import Experiment, Status, Step
from braincl_med.records.store import RunStore
from braincl_med.records.table import duration

LAST_PHASE = "evaluate"
"""With which every method ends a task."""


@dataclass(frozen=True)
class Standing:
    """How an experiment stands.

    Attributes:
        message: the sentence that was recorded with the status.
        task: the name of the task of the step below; empty before the first step.
        number, tasks: of that task, counted from 1, and how many there are.
        phase, round: of the step in progress, or in which the run ended; the round counts from 1. Where nobody has
            told of one, of the last step that was done.
        step_seconds: for how long that step has been in progress; None where it is done, or nobody works on it.
        hospitals: how many there are.
        present: those whose answer was used in the last step that was done.
        missing: the others, with the reason.
        last_sign: when the run last gave a sign of life: UTC, ISO 8601.
        silent_seconds: how long ago that was.
        process: which gave it, as `process N on HOST`; empty where nobody knows.
        seconds_to_go: estimated from the last task that was learned; None before there is one. Tasks take longer the
            more is remembered.
    """

    name: str
    status: Status
    message: str
    task: str
    number: int
    tasks: int
    phase: str
    round: int
    step_seconds: float | None
    hospitals: int
    present: tuple[str, ...]
    missing: dict[str, str]
    last_sign: str
    silent_seconds: float
    process: str
    seconds_to_go: float | None

    @property
    def well(self) -> bool:
        """Whether nobody need do anything: it runs or is finished."""
        return self.status in ("running", "finished")

    @property
    def place(self) -> str:
        """The step in words; empty before the first."""
        if not self.phase:
            return ""
        return f"{self.phase} round {self.round} of task '{self.task}' (task {self.number} of {self.tasks})"


def standing_of(store: RunStore, name: str) -> Standing:
    """How an experiment stands.

    Raises:
        RecordsError: the store has no such experiment, or cannot be read.
    """
    experiment, steps = store.experiment(name), store.steps(name)
    sign, last = read_sign(server_folder(store.path.parent, name)), steps[-1] if steps else None
    running, tasks = experiment.status == "running", experiment.registry.tasks
    # The sign of a run of which a later step is recorded, or whose task was taken back, tells nothing more.
    if sign and ((last and (sign.task, sign.position) < (last.task, last.position)) or sign.task >= len(tasks)):
        sign = None
    at: Sign | Step | None = sign or last
    last_sign = max(experiment.updated, sign.time) if sign else experiment.updated
    return Standing(
        name=name,
        status=experiment.status,
        message=experiment.message,
        task=tasks[at.task].name if at else "",
        number=at.task + 1 if at else 0,
        tasks=len(tasks),
        phase=at.phase if at else "",
        round=at.round + 1 if at else 0,
        step_seconds=seconds_since(sign.since) if sign and running else None,
        hospitals=_hospitals(experiment),
        present=last.hospitals if last else (),
        missing=last.missing if last else {},
        last_sign=last_sign,
        silent_seconds=seconds_since(last_sign),
        process=f"process {sign.process} on {sign.host}" if sign else "",
        seconds_to_go=0.0 if experiment.status == "finished" else _seconds_to_go(steps, sign, len(tasks), running),
    )


def _hospitals(experiment: Experiment) -> int:
    federation = experiment.config.get("federation", {})
    return int(federation.get("hospitals", 0))


def _seconds_to_go(steps: Sequence[Step], sign: Sign | None, tasks: int, running: bool) -> float | None:
    """Seconds until the last task is learned, as if every step took as long as in the last task that was."""
    learned = [step.task for step in steps if step.phase == LAST_PHASE]
    if not learned:
        return None
    whole = {step.position: step.seconds for step in steps if step.task == learned[-1]}
    task, position = (steps[-1].task, steps[-1].position + 1) if steps else (0, 0)
    if steps[-1].phase == LAST_PHASE:
        task, position = task + 1, 0
    left = sum(seconds for place, seconds in whole.items() if place >= position) if task < tasks else 0.0
    if sign and running and (sign.task, sign.position) == (task, position):
        left -= min(seconds_since(sign.since), whole.get(position, 0.0))
    return left + max(0, tasks - task - 1) * sum(whole.values())


def in_words(standing: Standing) -> str:
    """The standing as a person reads it, in some lines."""
    told = [f"{standing.name}: {standing.status}" + (f": {standing.message}" if standing.message else "")]
    if standing.place and standing.status != "finished":
        since = "" if standing.step_seconds is None else f", for {duration(standing.step_seconds)}"
        verb = "last done: " if not standing.process else "in " if standing.well else "ended in "
        told.append(verb + standing.place + since)
    if standing.present or standing.missing:
        missing = "; ".join(f"{name}: {reason}" for name, reason in sorted(standing.missing.items()))
        told.append(
            f"hospitals in the last step done: {len(standing.present)} of {standing.hospitals}"
            + (f", missing: {missing}" if missing else "")
        )
    by = f" ({standing.process})" if standing.process else ""
    told.append(f"last sign of life: {duration(standing.silent_seconds)} ago{by}")
    if standing.status != "finished":
        known = standing.seconds_to_go
        told.append("time to go: " + ("unknown until a task is learned" if known is None else estimate(known)))
    return "\n  ".join(told)


def estimate(seconds: float) -> str:
    """A time to go, said as the estimate that it is."""
    return f"about {duration(seconds)}, estimated from the last task that was learned"
