"""A known start from public scans: what a hospital's protected scans are looked at with, and never change.

public scans ──► backbone: the one that is named, or trained on them ──► features ──► reduction
"""

import torch

from braincl_med.cortex.backbones import has_batch_statistics
from braincl_med.cortex.cortex import Cortex, Weights, extract_features
from braincl_med.cortex.reduction import fit_reduction
from braincl_med.cortex.start import started
from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.progress import Progress
from braincl_med.foundation.seeding import seed_everything, seed_for
from braincl_med.phases.sleep import CALIBRATION_BATCH, calibrate, sleep
from braincl_med.settings.config import ExperimentConfig
from braincl_med.streams.tasks import Scans


def known_start(
    config: ExperimentConfig, public: Scans, weights: Weights | None = None, progress: Progress | None = None
) -> Weights:
    """The tensors of a file for `cortex-weights`: a backbone, and its reduction where `cortex-features` asks for one.

    Args:
        config: its cortex, and its sleep, by which a backbone is trained.
        public: scans of the classes 0, 1, …, at least two of them.
        weights: of a backbone that is taken as it is; without them one is trained on the public scans.
        progress: called after each epoch.

    Raises:
        ConfigError: the weights are of another backbone, or there are more features than the backbone has.
    """
    classes = int(public.labels.max()) + 1
    seed_everything(seed_for(config.seed, "start"))
    plain = config.cortex.model_copy(update={"features": None})
    cortex = Cortex(classes, plain)
    if weights is not None:
        cortex = Cortex.of(started(cortex.weights(), weights), plain)
    else:
        whole = config.sleep.model_copy(update={"rounds": 1})
        cortex = Cortex.of(cortex.weights(), plain)
        sleep(cortex, public, whole, 0, seed_for(config.seed, "start", "train"), 0.0, progress=progress)
        if has_batch_statistics(plain):
            calibrate(cortex, public, CALIBRATION_BATCH)
    kept = {name: tensor for name, tensor in cortex.weights().items() if name.startswith("backbone.")}
    if config.cortex.features is None:
        return kept
    if config.cortex.features > cortex.width:
        raise ConfigError(
            f"cortex-features is {config.cortex.features}, the backbone has {cortex.width}: ask for no more"
        )
    labels = torch.from_numpy(public.labels)
    centre, basis = fit_reduction(extract_features(cortex, public.images), labels, config.cortex.features)
    return {**kept, "reduction.centre": centre, "reduction.basis": basis.contiguous()}
