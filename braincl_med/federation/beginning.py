"""What a run begins from: the checkpoint of its experiment, judged against the configuration, or a new one."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from braincl_med.cortex.backbones import backbone_of, has_batch_statistics
from braincl_med.cortex.cortex import Weights
from braincl_med.cortex.start import load_start
from braincl_med.federation.begun import encoded_at
from braincl_med.federation.checkpoint import Checkpoint, folder_of, load_checkpoint
from braincl_med.federation.swap import swapped
from braincl_med.foundation.errors import ConfigError
from braincl_med.records.store import RunStore
from braincl_med.settings.config import BETWEEN_TASKS, FREE, JOINING, NETWORK, ExperimentConfig
from braincl_med.settings.loading import Change, differences
from braincl_med.streams.named import build_registry

PACKAGES = ("braincl-med", "torch", "torchvision", "flwr", "constriction", "medmnist", "numpy")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide a result."""
    found = {"python": python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def starting_point(config: ExperimentConfig) -> Checkpoint:
    """The checkpoint that a run of `config` goes on from, or a new one over its stream's tasks.

    Raises:
        ConfigError: something in the configuration does not exist, the experiment was begun with other settings, or
            was interrupted and `resume` is not set.
        VaultError: the checkpoint is damaged.
    """
    backbone_of(config.cortex)
    if config.privacy.mode == "updates" and has_batch_statistics(config.cortex):
        raise ConfigError(
            "privacy-mode 'updates' needs a network whose scans do not mix, and batch normalisation mixes them: set "
            "cortex-norm to group"
        )
    found = load_checkpoint(folder_of(config.state_folder, config.name))
    if found is None:
        if config.cortex.features is not None and not config.cortex.weights:
            raise ConfigError(
                "cortex-features is a map that public scans taught: make a file with `braincl start` and name it in "
                "cortex-weights"
            )
        if config.facts.frozen and not config.cortex.weights:
            raise ConfigError(
                f"method {config.method} never trains its backbone, so it must begin from one that has learned "
                "something: name a file of weights in cortex-weights (`braincl start` makes one from public scans)"
            )
        start_of(config)
        registry = build_registry(config.stream, config.seed)
        return Checkpoint(experiment=config.name, settings=config.as_result_settings(), registry=registry)
    changes = differences(found.settings, config)
    if refused := [str(change) for change in changes if _is_fixed(change, found, config)]:
        raise ConfigError(
            f"experiment '{config.name}' was begun with other settings: {'; '.join(refused)}; "
            "use the former ones, another name, or start afresh (what may change at any time: "
            f"{', '.join((JOINING, *FREE))}; between two tasks also: {', '.join(BETWEEN_TASKS)}; and for another "
            f"network, which learns from memory alone: {', '.join(NETWORK)})"
        )
    if changes:
        found = _changed(found, changes, config)
    other = [change for change in changes if change.network]
    begun_from = start_of(config)[1]
    if found.weights and begun_from not in ("", found.start) and not other:
        raise ConfigError(
            f"experiment '{config.name}' began from other weights than cortex-weights names now, which cannot be "
            "changed: leave the key out, or start afresh"
        )
    if found.interrupted and not config.resume:
        task = found.registry.tasks[found.task].name
        raise ConfigError(
            f"experiment '{config.name}' was interrupted in task '{task}': set resume to continue it, or start afresh"
        )
    return swapped(found, config, other) if other and found.task else found


def _changed(found: Checkpoint, changes: Sequence[Change], config: ExperimentConfig) -> Checkpoint:
    """The checkpoint under other settings, which are told in it.

    Tasks that are begun stay dealt out over the hospitals that began them, so that nobody gets a scan that was
    another's. Who has left is not waited for: the server learns anew who takes part.
    """
    told = tuple(f"from task {found.task + 1} on: {change}" for change in changes)
    update: dict[str, Any] = {"settings": config.as_result_settings(), "changes": (*found.changes, *told)}
    for change in changes:
        if change.joining:
            begun = found.interrupted or encoded_at(config.state_folder, config.name, found.task)
            update["registry"] = found.registry.dealt_until(found.task + bool(begun), change.before)
            update["hospitals"] = ()
    return found.model_copy(update=update)


def _is_fixed(change: Change, found: Checkpoint, config: ExperimentConfig) -> bool:
    """Whether a setting may no longer change where the experiment stands."""
    if change.joining:
        return False
    if found.interrupted or not (change.between_tasks or change.network):
        return True
    return change.encoded and bool(encoded_at(config.state_folder, config.name, found.task))


def start_of(config: ExperimentConfig) -> tuple[Weights, str]:
    """The weights that the backbone begins from and their SHA-256; nothing where they are drawn.

    Raises:
        ConfigError: as `load_start`.
    """
    return load_start(Path(config.cortex.weights).expanduser()) if config.cortex.weights else ({}, "")


def record_end(store: RunStore, experiment: str) -> None:
    """Say of an experiment whose checkpoint is finished that it is: a run may be killed between the two."""
    if experiment in store.experiments() and store.experiment(experiment).status != "finished":
        store.end(experiment, "finished")
