"""A MONAI bundle around the network: `python -m monai.bundle run` answers a folder as `braincl predict` does.

    configs/metadata.json, configs/inference.json
    models/model.json, models/weights.safetensors, models/SHA256SUMS     a copy, so that the bundle can go alone

MONAI's specification also names a `models/model.pt`. There is none: it is a pickle, and reading one runs what
it holds.
"""

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from braincl_med.foundation.files import write_whole
from braincl_med.inference.digests import write_sums
from braincl_med.inference.model import Model
from braincl_med.inference.network import Network
from braincl_med.inference.predict import BATCH, predict
from braincl_med.inference.reading import files_of
from braincl_med.inference.stored import read_model, write_model
from braincl_med.inference.table import csv_lines

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
ANSWERS = "answers.csv"
PACKAGES = ("torchvision", "safetensors", "pillow", "pydicom")
MODULE = "braincl_med.inference.export.bundle"


def write_bundle(folder: Path, model: Model, program: str) -> None:
    """Write the bundle of a model into `folder`.

    Args:
        program: the version of this program.

    Raises:
        VaultError: it cannot be written.
    """
    for name, content in (("metadata", metadata(model, program)), ("inference", inference())):
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_whole(folder / "configs" / f"{name}.json", text.encode(), shared=True)
    write_model(folder / "models", model)
    write_sums(folder / "models")


def inference() -> dict[str, Any]:
    """`configs/inference.json`; whoever runs it says where the bundle, the scans and the answers lie."""
    return {
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/scans'",
        "output_dir": "$@bundle_root + '/eval'",
        "batch_size": BATCH,
        "model": {"_target_": f"{MODULE}.load", "folder": "$@bundle_root + '/models'"},
        "network_def": {"_target_": "braincl_med.inference.network.Network.of", "model": "@model"},
        "evaluator": {
            "_target_": f"{MODULE}.Evaluator",
            "network": "@network_def",
            "model": "@model",
            "dataset_dir": "@dataset_dir",
            "output_dir": "@output_dir",
            "batch_size": "@batch_size",
        },
        "run": ["$@evaluator.run()"],
    }


def metadata(model: Model, program: str) -> dict[str, Any]:
    """`configs/metadata.json`, with the fields of MONAI's bundle specification."""
    names = {str(number): spec.name for number, spec in enumerate(model.classes)}
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "n/a",
        "num_channels": 3,
        "spatial_shape": [model.size, model.size],
        "dtype": "uint8",
        "value_range": [0, 255],
        "is_patch_data": False,
        "channel_def": {"0": "R", "1": "G", "2": "B"},
    }
    probabilities = {
        "type": "probabilities",
        "format": "classes",
        "num_channels": len(names),
        "spatial_shape": [1],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": names,
    }
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by braincl-med {program}"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {"braincl-med": program, **{name: _version(name) for name in PACKAGES}},
        "name": f"BrainCL-Med {model.experiment}",
        "task": "Classification of two-dimensional scans",
        "description": f"{model.cortex.network} of {len(names)} classes, learned by {model.method} over hospitals.",
        "authors": "the hospitals of the experiment, by BrainCL-Med",
        "copyright": "as the hospitals that trained it agree",
        "intended_use": "Research. This is no medical device, and its answers are no diagnoses.",
        "references": ["Semi-parametric Memory Consolidation, arXiv 2504.14727"],
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": probabilities}},
    }  # fmt: skip


def load(folder: str) -> Model:
    """The bundle's model; errors as `read_model`."""
    return read_model(Path(folder))


class Evaluator:
    """Answers every file of a folder.

    Args:
        network: of the model.
        model: read from the bundle.
        dataset_dir: a folder of scans, or one file.
        output_dir: made if it is missing; gets `answers.csv`.
        batch_size: scans answered at once.
    """

    def __init__(
        self, network: Network, model: Model, dataset_dir: str, output_dir: str, batch_size: int = BATCH
    ) -> None:
        self.network, self.model, self.batch_size = network, model, batch_size
        self.files, self.out = Path(dataset_dir), Path(output_dir)

    def run(self) -> None:
        """Write the answers.

        Raises:
            VaultError: they cannot be written.
        """
        rows = predict(self.model, files_of([self.files]), self.batch_size, network=self.network)
        write_whole(self.out / ANSWERS, b"".join(csv_lines(self.model, rows)), shared=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "any"
