"""A network in two files, which travel together: what it is, and its weights.

    model.json              version, classes, settings, operating point, digest and shapes of the weights; sealed
    weights.safetensors     the network's tensors, and beside them `familiarity.…` where it has a memory

`SHA256SUMS` has the digests of all files of the folder.
"""

import json
import math
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from braincl_med.cortex.cortex import Cortex, Weights, apart
from braincl_med.cortex.familiarity import Familiarity
from braincl_med.evaluation.operating import OperatingPoint
from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import canonical_json, reading_error, sha256_of, write_whole
from braincl_med.inference.digests import check_sums
from braincl_med.inference.model import Model, alone, require_plain
from braincl_med.settings.config import CortexConfig, Fit
from braincl_med.streams.tasks import Registry

DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"
FORMAT, VERSION = "braincl-model", 1
BESIDE = "familiarity."
CENTRES, WHITENING = BESIDE + "centres", BESIDE + "whitening"
Shapes = dict[str, tuple[str, tuple[int, ...]]]


class Description(BaseModel):
    """What `model.json` says.

    Attributes:
        program: the version of this program that wrote it.
        weights: SHA-256 of the weights' file.
        tensors: type and shape of each tensor in it.
        export: what else is known of an export: opset, measured differences; nothing where there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["braincl-model"] = "braincl-model"
    version: Literal[1] = 1
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
        program=program(),
        experiment=model.experiment,
        method=model.method,
        registry=model.registry,
        cortex=model.cortex,
        size=model.size,
        fit=model.fit,
        operating=model.operating,
        weights=sha256_of(content),
        tensors=_shapes(tensors),
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
    check_sums(folder)
    told = _description(folder / DESCRIPTION)
    require_plain(told.method)
    try:
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise reading_error(folder / WEIGHTS, error) from error
    if sha256_of(content) != told.weights:
        raise VaultError(f"'{WEIGHTS}' is not the one that '{DESCRIPTION}' names: export the network again")
    try:
        tensors: Weights = load_tensors(content)
    except (SafetensorError, ValueError) as error:
        raise VaultError(f"'{WEIGHTS}' holds no tensors: {type(error).__name__}") from None
    weights, beside = apart(tensors, BESIDE)
    cortex = alone(told.cortex)
    _check(told, tensors, weights, beside)
    familiarity = Familiarity(beside[CENTRES], beside[WHITENING]) if beside else None
    return Model(
        told.experiment, told.method, told.registry, cortex, told.size, told.fit, weights, familiarity, told.operating
    )


def _description(path: Path) -> Description:
    try:
        sealed = json.loads(path.read_bytes())
        body, sealing = sealed["model"], sealed["sha256"]
        if body.get("format") == FORMAT and isinstance(body.get("version"), int) and body["version"] > VERSION:
            raise VaultError(
                f"'{path.name}' has version {body['version']}, this program reads up to {VERSION}: update it"
            )
        if sha256_of(canonical_json(body)) != sealing:
            raise VaultError(f"'{path.name}' was changed or damaged: its checksum does not match")
        return Description.model_validate(body)
    except FileNotFoundError:
        raise VaultError(f"there is no '{path.name}' in '{path.parent.name}': it is no exported network") from None
    except OSError as error:
        raise reading_error(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError) as error:
        raise VaultError(f"'{path.name}' describes no exported network: {type(error).__name__}") from None


def _check(told: Description, tensors: Weights, weights: Weights, beside: Weights) -> None:
    """See that tensors are those described, that a network is made of them, and that all of it is finite."""
    if _shapes(tensors) != told.tensors:
        raise VaultError(f"the tensors of '{WEIGHTS}' have other names, types or shapes than '{DESCRIPTION}' says")
    classes = len(told.registry.classes)
    with torch.device("meta"):
        expected = Cortex(classes, alone(told.cortex))
    if _shapes(weights) != _shapes(expected.state_dict()):
        raise VaultError(f"'{WEIGHTS}' holds no network '{told.cortex.network}' of {classes} classes")
    width = expected.width
    if beside:
        centres, whitening = beside.get(CENTRES), beside.get(WHITENING)
        known = centres is not None and whitening is not None and len(beside) == 2
        if not known or centres.dtype != torch.float64 or whitening.dtype != torch.float64:  # type: ignore[union-attr]
            raise VaultError(f"'{WEIGHTS}' holds no memory of this network's features")
        if centres.shape[1:] != (width,) or whitening.shape != (width, width) or not len(centres):  # type: ignore[union-attr, arg-type]
            raise VaultError(f"'{WEIGHTS}' holds a memory of other features than this network's")
    operating = told.operating
    if operating is not None:
        if len(operating.counts) != classes:
            raise VaultError(f"the operating point is that of {len(operating.counts)} classes, there are {classes}")
        if (operating.score == "familiarity") != bool(beside):
            raise VaultError("the operating point's score is not the one that this network has")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not math.isfinite(float(tensor.double().abs().sum())):
            raise VaultError(f"'{name}' of '{WEIGHTS}' holds numbers that are not finite")


def _shapes(tensors: Any) -> Shapes:
    return {name: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in tensors.items()}


def program() -> str:
    """The version of this program."""
    try:
        return version("braincl-med")
    except PackageNotFoundError:
        return "not installed"
