"""The server's checkpoint: the shared network, its class registry, and the next step of the schedule.

    server/<experiment>/checkpoint.json              read first; names the weights file and its SHA-256
                        weights-<digest>.safetensors
                        moments-<digest>.safetensors     where hospitals told them: of their features, averaged
                        former/<task>-<position>.json    checkpoints before it, with the files that they alone name

All are written whole, the JSON last, so a kill at any moment leaves the former or the new checkpoint. What a former
one names lies in `former` or, as long as the present one names it too or its writer was killed, still beside that.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from braincl_med.cortex.cortex import Weights, apart
from braincl_med.dp.statistics import STATISTICS
from braincl_med.evaluation.operating import OperatingPoint
from braincl_med.foundation.checked import UNREADABLE, ChangedError, body_of, with_checksum
from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import reading_error, sha256_of, write_whole
from braincl_med.foundation.places import server_folder
from braincl_med.streams.tasks import Registry

NAME = "checkpoint.json"
FORMER = "former"
Version = Literal[1, 2, 3, 4, 5]
VERSION: Version = 5
KEPT = 4
"""How many former checkpoints are kept: of the last steps so many, and of the ends of tasks."""
TENSORS = ("weights-*.safetensors", "moments-*.safetensors")


class Checkpoint(BaseModel):
    """Where an experiment stands.

    Attributes:
        settings: what decides the result, to refuse a resumption under another configuration.
        changes: what was changed in the settings between tasks, in words, since version 3.
        registry: all tasks and the names of their classes; since version 4 also over how many hospitals those are
            dealt out that were begun by another number of them.
        task, position: the next step; `task` equals the number of tasks once all are learned.
        hospitals: the names that have answered so far.
        threads: with how many each of them computed last, since version 2; the last bits of a result depend on it.
        start: SHA-256 of the file of weights that its backbone began from, empty where these were drawn.
        weights: file name of the shared network, empty before the first task.
        sha256: of that file.
        operating: how the network's logits become answers, since version 3, by two scores since 5; None until it is
            evaluated, and where no hospital has known scans.
        moments, moments_sha256: of the file that says where features of known scans lie, if the operating point
            needs it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["braincl-checkpoint"] = "braincl-checkpoint"
    version: Version = VERSION
    experiment: str
    settings: dict[str, Any]
    changes: tuple[str, ...] = ()
    registry: Registry
    task: int = 0
    position: int = 0
    hospitals: tuple[str, ...] = ()
    threads: dict[str, int] = {}
    start: str = ""
    weights: str = ""
    sha256: str = ""
    operating: OperatingPoint | None = None
    moments: str = ""
    moments_sha256: str = ""

    @property
    def finished(self) -> bool:
        """Whether every task of the registry is learned."""
        return self.task >= len(self.registry.tasks)

    @property
    def interrupted(self) -> bool:
        """Whether a task was begun and not finished."""
        return self.position > 0

    @property
    def place(self) -> tuple[int, int]:
        """The next step, by which checkpoints of one experiment are ordered."""
        return self.task, self.position

    @property
    def files(self) -> frozenset[str]:
        """The names of its files of tensors."""
        return frozenset(filter(None, (self.weights, self.moments)))


def folder_of(state: Path, experiment: str) -> Path:
    """Where the server keeps an experiment's checkpoint."""
    return server_folder(state, experiment)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`, or None when there is none.

    Raises:
        VaultError: it is damaged, or this user may not read it.
    """
    return _read(folder / NAME)


def former_checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints before the present one that are kept, oldest first.

    Raises:
        VaultError: as `load_checkpoint`.
    """
    found = [_read(path) for path in sorted((folder / FORMER).glob("*.json"))]
    return sorted((one for one in found if one is not None), key=lambda one: one.place)


def _read(path: Path) -> Checkpoint | None:
    try:
        if not path.is_file():
            return None
        content = path.read_bytes()
    except OSError as error:
        raise reading_error(path, error) from error
    try:
        return Checkpoint.model_validate(body_of("checkpoint", content))
    except ChangedError:
        raise VaultError(f"'{path.name}' was changed or damaged: its checksum does not match") from None
    except UNREADABLE as error:
        raise VaultError(f"'{path.name}' is not a checkpoint: {type(error).__name__}") from None


def load_weights(folder: Path, checkpoint: Checkpoint) -> Weights:
    """The shared network of a checkpoint, the present or a former one.

    Raises:
        VaultError: the file is missing, cannot be read, or is not the one that the checkpoint names.
    """
    return _load(_place_of(folder, checkpoint.weights), checkpoint.sha256)


def load_network(folder: Path, checkpoint: Checkpoint) -> Weights:
    """The tensors of `load_weights` that are the network's own, without sums over tasks that lie beside them."""
    return apart(load_weights(folder, checkpoint), STATISTICS)[0]


def load_moments(folder: Path, checkpoint: Checkpoint) -> Weights:
    """The moments that lie beside a checkpoint's network, none where it names no file; errors as `load_weights`."""
    return _load(_place_of(folder, checkpoint.moments), checkpoint.moments_sha256) if checkpoint.moments else {}


def save_checkpoint(
    folder: Path, checkpoint: Checkpoint, weights: Weights | None = None, moments: Weights | None = None
) -> Checkpoint:
    """Write the checkpoint, and the network and moments when they changed.

    The present one becomes a former one before, and afterwards those former ones are deleted that are not among the
    `KEPT`, or that do not lie before the checkpoint.

    Returns:
        The checkpoint as written, of this version, naming its files.
    """
    checkpoint = checkpoint.model_copy(update={"version": VERSION})
    if weights is not None:
        name, digest = _save(folder, "weights", weights)
        checkpoint = checkpoint.model_copy(update={"weights": name, "sha256": digest})
    if moments is not None:
        name, digest = _save(folder, "moments", moments)
        checkpoint = checkpoint.model_copy(update={"moments": name, "moments_sha256": digest})
    former = _read(folder / NAME)
    if former is not None:
        write_whole(folder / FORMER / "{:04d}-{:04d}.json".format(*former.place), _sealed(former))
    write_whole(folder / NAME, _sealed(checkpoint))
    _put_away(folder, checkpoint)
    return checkpoint


def _sealed(checkpoint: Checkpoint) -> bytes:
    return with_checksum("checkpoint", checkpoint.model_dump(mode="json"))


def _put_away(folder: Path, now: Checkpoint) -> None:
    """Keep what is needed to go back by the last steps and to the last ends of tasks, and delete all else."""
    former: dict[Path, Checkpoint] = {}
    listed = sorted((folder / FORMER).glob("*.json"))
    for path in listed:
        with suppress(VaultError):  # of one that cannot be read nothing can be kept
            one = _read(path)
            if one is not None and one.place < now.place:
                former[path] = one
    ends = [path for path, one in former.items() if not one.interrupted]
    kept = {*list(former)[-KEPT:], *ends[-KEPT:]}
    needed = {name for path in kept for name in former[path].files}
    for path in listed:
        if path not in kept:
            path.unlink()
    for path in (path for kind in TENSORS for path in folder.glob(kind) if path.name not in now.files):
        if path.name in needed:
            os.replace(path, folder / FORMER / path.name)
        else:
            path.unlink()
    for path in (path for kind in TENSORS for path in (folder / FORMER).glob(kind) if path.name not in needed):
        path.unlink()


def _place_of(folder: Path, name: str) -> Path:
    """Where a file of tensors lies."""
    former = folder / FORMER / name
    return former if former.is_file() and not (folder / name).is_file() else folder / name


def _save(folder: Path, kind: str, tensors: Weights) -> tuple[str, str]:
    """Write tensors to a file that is named after them; returns its name and SHA-256."""
    content = save_tensors({name: tensor.contiguous() for name, tensor in tensors.items()})
    digest = sha256_of(content)
    name = f"{kind}-{digest[:12]}.safetensors"
    write_whole(folder / name, content)
    return name, digest


def _load(path: Path, digest: str) -> Weights:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise VaultError(f"'{path.name}' is missing beside '{NAME}'") from None
    except OSError as error:
        raise reading_error(path, error) from error
    if sha256_of(content) != digest:
        raise VaultError(f"'{path.name}' was changed or damaged: its checksum does not match")
    tensors: Weights = load_tensors(content)
    return tensors
