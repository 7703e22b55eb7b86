"""The shared network examined at all hospitals, beside the steps of a run: nothing is learned, nothing checkpointed.

last end of a task ─► network, temperature ──order──► every hospital's counts ─► run store
"""

import logging
from collections.abc import Callable
from pathlib import Path

from braincl_med.cortex.cortex import Weights, apart
from braincl_med.cortex.gaussians import MOMENTS
from braincl_med.evaluation.examination import Examination
from braincl_med.federation.checkpoint import (
    Checkpoint,
    folder_of,
    former_checkpoints,
    load_checkpoint,
    load_moments,
    load_network,
)
from braincl_med.federation.exchange import Exchange, Hospitals
from braincl_med.federation.limits import Limits
from braincl_med.federation.members import read_members
from braincl_med.foundation.errors import ConfigError, FederationError
from braincl_med.foundation.files import locked
from braincl_med.messages.order import Examine, Order
from braincl_med.methods import METHODS
from braincl_med.methods.examine import EXAMINE, objection_to_examining
from braincl_med.methods.phase import BEFORE
from braincl_med.records.store import RunStore
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import former_config

log = logging.getLogger("braincl")


def examined_config(state: Path, experiment: str, **elsewhere: str) -> ExperimentConfig:
    """The configuration of an experiment that has begun, as its checkpoint keeps it.

    Args:
        state: the state root.
        experiment: its name.
        elsewhere: fields of the configuration that are no part of the experiment, such as `data_root`.

    Raises:
        ConfigError: there is none of that name.
    """
    found = load_checkpoint(folder_of(state, experiment))
    if found is None:
        raise ConfigError(f"there is no experiment '{experiment}' below the state root: run it first")
    config = former_config(found.settings, experiment)
    return config.model_copy(update={"state_root": str(state), **elsewhere})


def examine(config: ExperimentConfig, reach: Callable[[ExperimentConfig], Exchange]) -> str:
    """Let all hospitals examine the network as the last learned task left it, and keep what they tell.

    Args:
        config: the experiment, which may be finished or stand anywhere.
        reach: how its hospitals are reached; not called where nothing is asked.

    Returns:
        One sentence on what was done.

    Raises:
        LockedError: its run goes on.
        ConfigError: it has learned no task, or its privacy forbids it.
        FederationError: fewer usable answers than the quorum.
    """
    if reason := objection_to_examining(config):
        raise ConfigError(f"'{config.name}' cannot be examined: {reason}")
    folder = folder_of(config.state_folder, config.name)
    with locked(folder, f"experiment '{config.name}'"):
        checkpoint = _last_end(folder, config.name)
        members = read_members(folder).begun_with(config.stream.train_per_class, checkpoint.task)
        limits = Limits.of(config, members.most_per_class, checkpoint.registry)
        hospitals = Hospitals(reach(config), config.federation, members=members, limits=limits)
        return record(config, checkpoint, hospitals, RunStore(config.state_folder, create=True))


def record_where_asked(
    config: ExperimentConfig, checkpoint: Checkpoint, hospitals: Hospitals, store: RunStore
) -> None:
    """As `record`, during a run: only after the tasks that its settings name, and what comes of it ends no run."""
    when = config.stream.examine
    if checkpoint.interrupted or when == "never" or (when == "last" and not checkpoint.finished):
        return
    try:
        log.info("%s", record(config, checkpoint, hospitals, store))
    except FederationError as error:
        log.warning("the network was not examined: %s", error)


def record(config: ExperimentConfig, checkpoint: Checkpoint, hospitals: Hospitals, store: RunStore) -> str:
    """Ask hospitals to examine the network of a checkpoint at the end of a task, and keep what they tell.

    Returns:
        One sentence on what was done.

    Raises:
        FederationError: fewer usable answers than the quorum.
    """
    folder, task = folder_of(config.state_folder, config.name), checkpoint.task - 1
    shared, _ = apart(load_network(folder, checkpoint), MOMENTS)
    asked = Examine(
        temperature=checkpoint.operating.temperature if checkpoint.operating else 1.0,
        per_class=config.stream.examined_per_class,
    )
    former = {BEFORE + name: tensor for name, tensor in _network_before(folder, checkpoint).items()}
    sent = {**shared, **load_moments(folder, checkpoint), **former}
    order = Order(config.name, task, EXAMINE.name, 0, checkpoint.registry, sent, examine=asked)
    outcome = hospitals.ask(order, EXAMINE, METHODS[config.method], checkpoint.hospitals)
    told = {report.hospital: Examination.model_validate(report.figures) for report in outcome.usable}
    store.record_examination(config.name, task, told)
    scans = sum(one.scans for one in told.values())
    name = checkpoint.registry.tasks[task].name
    hospitals_told = f"{len(told)} of {config.federation.hospitals} hospitals"
    return f"{hospitals_told} examined the network after task '{name}', on {scans:,} scans"


def _last_end(folder: Path, experiment: str) -> Checkpoint:
    """The last checkpoint at which no task is under way, and one is learned."""
    present = load_checkpoint(folder)
    ends = [one for one in (*former_checkpoints(folder), *([present] if present else ())) if not one.interrupted]
    learned = [one for one in ends if one.task and one.weights]
    if not learned:
        raise ConfigError(f"'{experiment}' has learned no task yet: there is no network to examine")
    last: Checkpoint = learned[-1]
    return last


def _network_before(folder: Path, checkpoint: Checkpoint) -> Weights:
    """The network as it was before the last task of a checkpoint; none where it is not kept, or was another one."""
    for one in former_checkpoints(folder):
        same = one.settings.get("cortex") == checkpoint.settings.get("cortex")
        if (one.task, one.position) == (checkpoint.task - 1, 0) and one.weights and same:
            return load_network(folder, one)
    return {}
