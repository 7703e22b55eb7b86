"""DP-SGD (Abadi et al. 2016) through Opacus: what training may learn of one sample is bounded.

every step:  each sample is in the batch with probability q  ─►  its gradient is cut to length C
─►  (Σ cut gradients + m C · normal noise) / (q n)  ─►  a step of SGD
"""

import math
import secrets
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from braincl_med.cortex.cortex import Cortex, extract_features, scans_to_tensor
from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.progress import Progress
from braincl_med.phases.rounds import epochs_of_round
from braincl_med.phases.sleep import augment, learning_rate
from braincl_med.settings.config import SleepConfig, WakeConfig
from braincl_med.settings.privacy import PrivacyConfig
from braincl_med.streams.tasks import Scans


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn: every one of them with probability `rate`, anew in each of `steps`."""

    rate: float
    steps: int

    @staticmethod
    def of(samples: int, batch_size: int, epochs: int) -> "Sampling":
        """As many steps as batches of this size take for so many passes; all samples in each where they are fewer."""
        rate = min(1.0, batch_size / samples)
        return Sampling(rate, epochs * math.ceil(1 / rate))


def sleep_privately(
    cortex: Cortex, recalled: Scans, config: SleepConfig, privacy: PrivacyConfig, number: int, progress: Progress
) -> None:
    """`sleep.sleep` for one round by DP-SGD, with its learning rates and augmentation.

    Args:
        cortex: changed in place; no layer of it may mix samples, as batch normalisation does.
        recalled: samples of which each depends on one scan alone; at least one.
        config: as for `sleep`.
        privacy: noise and clipping.
        number: of the round, from 0.
        progress: called after each epoch.

    Raises:
        ConfigError: Opacus is not installed.
    """
    first, epochs = epochs_of_round(config.epochs, config.rounds, number)
    cortex.train()
    # Not fused: gradients of single samples come in other memory layouts than the fused step takes.
    optimiser = torch.optim.SGD(
        cortex.parameters(), config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    descend(
        cortex,
        optimiser,
        scans_to_tensor(recalled.images),
        torch.from_numpy(recalled.labels),
        Sampling.of(len(recalled), config.batch_size, epochs),
        privacy,
        lambda passes: learning_rate(config, min((first + passes) / config.epochs, 1 - 1e-9)),
        lambda scans: augment(scans, config, 0.0),
        progress,
    )


def wake_privately(
    cortex: Cortex, samples: Scans, config: WakeConfig, privacy: PrivacyConfig, rows: range, epochs: int
) -> None:
    """`wake.wake` by DP-SGD: some rows of the classifier, competing among themselves, on frozen features.

    Raises:
        ConfigError: Opacus is not installed.
    """
    features = extract_features(cortex, samples.images)
    classifier = nn.Linear(features.shape[1], len(rows), device=cortex.device)
    place = slice(rows.start, rows.stop)
    classifier.load_state_dict({"weight": cortex.classifier.weight[place], "bias": cortex.classifier.bias[place]})
    optimiser = torch.optim.SGD(
        classifier.parameters(), config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    labels = torch.from_numpy(samples.labels - rows.start)
    sampling = Sampling.of(len(samples), config.batch_size, epochs)
    descend(classifier, optimiser, features, labels, sampling, privacy, lambda passes: config.learning_rate)
    with torch.no_grad():
        cortex.classifier.weight[place] = classifier.weight
        cortex.classifier.bias[place] = classifier.bias


def descend(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    inputs: Tensor,
    labels: Tensor,
    sampling: Sampling,
    privacy: PrivacyConfig,
    rate: Callable[[float], float],
    prepare: Callable[[Tensor], Tensor] = lambda batch: batch,
    progress: Progress | None = None,
) -> None:
    """Take the steps of `sampling` on the cross-entropy of a network's answers.

    Which samples are drawn, how they are changed, and the noise follow from the operating system's entropy: who knows
    an experiment's seed could take noise drawn by it off again.

    Args:
        network: changed in place.
        optimiser: of its parameters.
        inputs: (n, …) on the CPU.
        labels: (n,) class numbers.
        sampling: of them.
        privacy: noise multiplier m and length C.
        rate: the learning rate after so many passes.
        prepare: changes a batch, sample by sample.
        progress: called after each pass.

    Raises:
        ConfigError: Opacus is not installed.
    """
    device = next(network.parameters()).device
    drawn = torch.Generator().manual_seed(secrets.randbits(63))
    wrapped, private = _by_opacus(network, optimiser, privacy, sampling.rate * len(inputs))
    a_pass = math.ceil(1 / sampling.rate)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Full backward hook is firing")  # scans need no gradient
        torch.manual_seed(secrets.randbits(63))
        for step in range(sampling.steps):
            chosen = torch.rand(len(inputs), generator=drawn) < sampling.rate
            for group in private.param_groups:
                group["lr"] = rate(step / a_pass)
            private.zero_grad()
            if bool(chosen.any()):
                answers = wrapped(prepare(inputs[chosen].to(device)))
                functional.cross_entropy(answers, labels[chosen].to(device)).backward()  # type: ignore[no-untyped-call]
                for parameter in private.params:
                    # A gradient that is no number would get past clipping: a refusal would tell of its sample.
                    torch.nan_to_num_(parameter.grad_sample, 0.0, 0.0, 0.0)
            else:  # a step of noise alone, which a server must not be able to tell from others
                for parameter in private.params:
                    parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
            private.step()
            if progress is not None and (step + 1) % a_pass == 0:
                progress((step + 1) // a_pass, sampling.steps // a_pass, "private")
    wrapped.to_standard_module()


def _by_opacus(network: nn.Module, optimiser: torch.optim.Optimizer, privacy: PrivacyConfig, batch: float) -> Any:
    """The network with gradients a sample, and the optimiser that clips them to C, sums and adds noise of m · C."""
    try:
        from opacus import GradSampleModule  # type: ignore[import-untyped]
        from opacus.optimizers import DPOptimizer  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise ConfigError(
            "privacy-mode 'updates' needs the package 'opacus': pip install '.[privacy]' in the project's folder"
        ) from None
    wrapped = GradSampleModule(network, loss_reduction="mean")
    private = DPOptimizer(
        optimiser,
        noise_multiplier=privacy.noise_multiplier,
        max_grad_norm=privacy.clipping,
        expected_batch_size=batch,
        generator=torch.Generator(next(network.parameters()).device).manual_seed(secrets.randbits(63)),
    )
    return wrapped, private
