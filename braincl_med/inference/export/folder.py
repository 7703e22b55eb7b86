"""One folder with all that a network needs elsewhere, written whole: it is there complete or not at all.

    weights.safetensors, model.json     the network, as this program reads it (`inference.stored`)
    model.onnx                          the same for any ONNX runtime, from uint8 scans to the verdict
    bundle/                             the same as a MONAI bundle
    card.md, card.html                  what it is for, what was measured, what was not
    SHA256SUMS                          of all of them

The bundle has a copy of the first two, so that it can go alone.
"""

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.files import PARTIAL_SUFFIX, make_folder, storage_error, sync_folder, write_whole
from braincl_med.foundation.page import html, markdown
from braincl_med.foundation.version import program_version
from braincl_med.inference.digests import write_sums
from braincl_med.inference.export.bundle import write_bundle
from braincl_med.inference.export.card import card
from braincl_med.inference.export.onnx import Compared, as_told, onnx_of
from braincl_med.inference.opening import of_experiment
from braincl_med.inference.stored import write_model

ONNX = "model.onnx"


@dataclass(frozen=True)
class Exported:
    """What was written: the digest that stands for all files, their bytes, and how far ONNX is from PyTorch."""

    digest: str
    size: int
    compared: Compared


def export(state: Path, experiment: str, folder: Path) -> Exported:
    """Write an experiment's network into a new folder.

    Args:
        state: the state root that has it.
        experiment: its name.
        folder: must not exist, or be empty.

    Raises:
        ConfigError: the folder holds something, or the experiment has no network that can be used by itself.
        RecordsError: the run store knows nothing of the experiment.
        VaultError: the checkpoint is damaged, or the folder cannot be written.
        BrainclError: the ONNX graph cannot be made, or answers otherwise than PyTorch.
    """
    _require_free(folder)
    model = of_experiment(state, experiment)
    page = card(state, model)
    graph, compared = onnx_of(model)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    try:
        make_folder(partial)
        write_model(partial, model, as_told(compared))
        write_whole(partial / ONNX, graph, shared=True)
        write_bundle(partial / "bundle", model, program_version())
        write_whole(partial / "card.md", markdown(page).encode(), shared=True)
        write_whole(partial / "card.html", html(page).encode(), shared=True)
        digest = write_sums(partial)
        size = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
        if folder.is_dir():
            folder.rmdir()
        os.replace(partial, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise storage_error(folder, 0, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(digest, size, compared)


def _require_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"'{folder.name}' is there already: name a new folder, or an empty one")
