"""A network in two files, which travel together: what it is, and its weights.

    model.json              version, classes, settings, operating point, digest and shapes of the weights; sealed
    weights.safetensors     the network's tensors, and beside them `familiarity.…` where it has a memory

`SHA256SUMS` has the digests of all files of the folder.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from braincl_med.cortex.cortex import Cortex, Weights, apart
from braincl_med.cortex.familiarity import Familiarity
from braincl_med.evaluation.operating import OperatingPoint
from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import canonical_json, sha256_of, write_whole
from braincl_med.foundation.version import program_version
from braincl_med.inference.digests import read_sums
from braincl_med.inference.model import Model, alone, require_plain
from braincl_med.settings.config import CortexConfig, Fit
from braincl_med.streams.tasks import Registry

DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"
FORMAT, VERSION = "braincl-model", 2
"""Since version 2 the operating point may have two thresholds."""
BESIDE = "familiarity."
CENTRES, WHITENING = BESIDE + "centres", BESIDE + "whitening"
Shapes = dict[str, tuple[str, tuple[Annotated[int, Field(ge=0)], ...]]]
MOST_BYTES = 1 << 24
"""Of a description."""
ROOM = 1 << 26
"""Bytes that a file has beside tensors: names, a graph, a page."""


class Description(BaseModel):
    """What `model.json` says; numbers are told as numbers, so that no `true` counts as 1.

    Attributes:
        program: the version of this program that wrote it.
        weights: SHA-256 of the weights' file.
        tensors: type and shape of each tensor in it.
        remembered: the numbers of the classes that the memory knows, one a centre; None: all of them.
        export: what else is known of an export: opset, measured differences; nothing where there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["braincl-model"] = "braincl-model"
    version: int = Field(default=VERSION, ge=1, le=VERSION)
    program: str
    experiment: str = Field(max_length=63)
    method: str
    registry: Registry
    cortex: CortexConfig
    size: int = Field(ge=1, le=4096)
    fit: Fit
    operating: OperatingPoint | None
    weights: str = Field(pattern=r"^[0-9a-f]{64}$")
    tensors: Shapes
    remembered: tuple[int, ...] | None = None
    export: dict[str, Any] = {}


def write_model(folder: Path, model: Model, export: dict[str, Any] | None = None) -> None:
    """Write both files of a model into a folder; its digests are still to be written.

    Raises:
        VaultError: they cannot be written.
    """
    tensors = dict(model.weights)
    if model.familiarity is not None:
        tensors |= {CENTRES: model.familiarity.centres, WHITENING: model.familiarity.whitening}
    tensors = {name: tensor.contiguous() for name, tensor in sorted(tensors.items())}
    content = save_tensors(tensors)
    told = Description(
        program=program_version(),
        experiment=model.experiment,
        method=model.method,
        registry=model.registry,
        cortex=model.cortex,
        size=model.size,
        fit=model.fit,
        operating=model.operating,
        weights=sha256_of(content),
        tensors=_shapes(tensors),
        remembered=model.familiarity.classes if model.familiarity else None,
        export=export or {},
    )
    body = told.model_dump(mode="json")
    sealed = {"model": body, "sha256": sha256_of(canonical_json(body))}
    write_whole(folder / WEIGHTS, content, shared=True)
    text = json.dumps(sealed, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    write_whole(folder / DESCRIPTION, (text + "\n").encode(), shared=True)


def read_model(path: Path) -> Model:
    """The model in a folder that was exported, after a look at every file of it.

    Args:
        path: the folder, or its `model.json`.

    Raises:
        VaultError: a file is missing, damaged, foreign or of another version, or the files do not fit together.
        ConfigError: its network or method is none that this program has.
    """
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and path.name != DESCRIPTION:
        raise VaultError(f"'{path.name}' is no exported network: give the folder that `braincl export` wrote")
    sums = read_sums(folder)
    told = _description(sums.read(DESCRIPTION, MOST_BYTES))
    require_plain(told.method)
    _check(told)
    # No file is larger than the network that is described; the graph holds its tensors too, some of them twice.
    most = 2 * _bytes(told.tensors) + ROOM
    sums.check(most, but=(DESCRIPTION, WEIGHTS))
    content = sums.read(WEIGHTS, most)
    if sha256_of(content) != told.weights:
        raise VaultError(f"'{WEIGHTS}' is not the one that '{DESCRIPTION}' names: export the network again")
    try:
        tensors: Weights = load_tensors(content)
    except (SafetensorError, ValueError) as error:
        raise VaultError(f"'{WEIGHTS}' holds no tensors: {type(error).__name__}") from None
    weights, beside = apart(tensors, BESIDE)
    cortex = alone(told.cortex)
    _check_tensors(told, tensors)
    familiarity = Familiarity(beside[CENTRES], beside[WHITENING], _remembered(told)) if beside else None
    return Model(
        told.experiment, told.method, told.registry, cortex, told.size, told.fit, weights, familiarity, told.operating
    )


def _description(content: bytes) -> Description:
    try:
        sealed = json.loads(content)
        body, sealing = sealed["model"], sealed["sha256"]
        if body.get("format") == FORMAT and isinstance(body.get("version"), int) and body["version"] > VERSION:
            raise VaultError(
                f"'{DESCRIPTION}' has version {body['version']}, this program reads up to {VERSION}: update it"
            )
        if sha256_of(canonical_json(body)) != sealing:
            raise VaultError(f"'{DESCRIPTION}' was changed or damaged: its checksum does not match")
        # As JSON, in which lists are tuples, also where numbers must be numbers.
        return Description.model_validate_json(canonical_json(body), strict=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError) as error:
        raise VaultError(f"'{DESCRIPTION}' describes no exported network: {type(error).__name__}") from None


def _check(told: Description) -> None:
    """See that what is described fits together, before any tensor is read."""
    classes = len(told.registry.classes)
    with torch.device("meta"):
        expected = Cortex(classes, alone(told.cortex))
    weights = {name: shape for name, shape in told.tensors.items() if not name.startswith(BESIDE)}
    if weights != _shapes(expected.state_dict()):
        raise VaultError(f"'{WEIGHTS}' holds no network '{told.cortex.network}' of {classes} classes")
    width, remembered = expected.width, _remembered(told)
    beside = {name: shape for name, shape in told.tensors.items() if name not in weights}
    if list(remembered) != sorted(set(remembered)) or not set(remembered) <= set(range(classes)):
        raise VaultError(f"'{DESCRIPTION}' names remembered classes that the network has not")
    if beside:
        if beside.keys() != {CENTRES, WHITENING} or any(kind != "float64" for kind, _ in beside.values()):
            raise VaultError(f"'{WEIGHTS}' holds no memory of this network's features")
        if not remembered or [beside[name][1] for name in (CENTRES, WHITENING)] != [
            (len(remembered), width),
            (width, width),
        ]:
            raise VaultError(
                f"'{WEIGHTS}' holds a memory of other features than this network's, or of another number of classes "
                f"than {len(remembered)}"
            )
    operating = told.operating
    if operating is not None:
        if len(operating.counts) != classes:
            raise VaultError(f"the operating point is that of {len(operating.counts)} classes, there are {classes}")
        if (operating.score == "familiarity") != bool(beside):
            raise VaultError("the operating point's score is not the one that this network has")


def _check_tensors(told: Description, tensors: Weights) -> None:
    """See that tensors are those described, and that all of them are finite."""
    if _shapes(tensors) != told.tensors:
        raise VaultError(f"the tensors of '{WEIGHTS}' have other names, types or shapes than '{DESCRIPTION}' says")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not math.isfinite(float(tensor.double().abs().sum())):
            raise VaultError(f"'{name}' of '{WEIGHTS}' holds numbers that are not finite")


def _remembered(told: Description) -> tuple[int, ...]:
    return tuple(range(len(told.registry.classes))) if told.remembered is None else told.remembered


def _bytes(shapes: Shapes) -> int:
    """Of tensors whose types are known."""
    return sum(math.prod(shape) * getattr(torch, kind).itemsize for kind, shape in shapes.values())


def _shapes(tensors: Any) -> Shapes:
    return {name: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in tensors.items()}
