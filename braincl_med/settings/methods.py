"""Settings of the methods that BrainCL is compared with: sections that `settings.config` puts together."""

from typing import Literal

from pydantic import Field

from braincl_med.settings.section import Section


class ExemplarConfig(Section):
    """What Replay, Replay-WebP, iCaRL and DER keep of a task: raw scans, or lossy WebP sheets of them.

    `per-class` exemplars of each class at a hospital; or, with `bytes-per-scan` b, as many as fit into b bytes for
    every training scan of the task, shared evenly by its classes: the same bytes as another memory. With the codec
    `raw` a scan costs its pixels' bytes (a grey one has one channel); with `webp`, which Replay-WebP has always,
    sheets of `webp-quality` cost their bytes and those of their lengths. `rule` chooses by features of the network
    just trained; each hospital chooses among its own scans.
    """

    codec: Literal["raw", "webp"] = "raw"
    per_class: int = Field(default=20, ge=1)
    bytes_per_scan: float | None = Field(default=None, gt=0)
    rule: Literal["nearest", "herding", "random"] = "herding"
    webp_quality: int = Field(default=30, ge=0, le=100)


class EwcConfig(Section):
    """Elastic weight consolidation: `strength` is the λ of its penalty.

    The Fisher information is taken over at most `fisher-samples` scans of a task. `plain` keeps it and the weights
    after every task; `online` keeps the sum over tasks and the latest weights.
    """

    strength: float = Field(default=1000.0, gt=0)
    variant: Literal["plain", "online"] = "plain"
    fisher_samples: int = Field(default=200, ge=1)


class IcarlConfig(Section):
    """iCaRL, beside its `exemplars`: the logits are cosines times `similarity-scale`.

    The scale changes no prediction, only the spread of confidence scores.
    """

    similarity_scale: float = Field(default=30, gt=0)


class DerConfig(Section):
    """Dynamically expandable representation, beside its `exemplars`.

    `auxiliary-weight` weighs the loss of the classifier that tells the task's classes from "old"; the classifier is
    trained anew for `rebalance-epochs` on a class-balanced set of at least `rebalance-per-class` scans a class, those
    of smaller classes repeated. 0.004 is the authors' 0.1 at temperature 5.
    """

    auxiliary_weight: float = Field(default=1, ge=0)
    rebalance_epochs: int = Field(default=30, ge=1)
    rebalance_per_class: int = Field(default=20, ge=1)
    rebalance_learning_rate: float = Field(default=0.004, gt=0)


class MygoConfig(Section):
    """MyGO: the generator of dreams and its training.

    `noise` is the length of the noise and of the class embedding; `channels`, of the layer next to the scan, belong
    to the `convolutional` generator (four times as many at its other end at most), `hidden-units` to the `mlp`. New
    rows of the classifier are trained under `wake`, but for `head-epochs` and at `head-learning-rate`; the whole
    network under `sleep`, from the second task on by distillation and at `learning-rate`.
    """

    generator: Literal["convolutional", "mlp"] = "convolutional"
    noise: int = Field(default=64, ge=1)
    channels: int = Field(default=16, ge=1)
    hidden_units: int = Field(default=128, ge=1)
    generator_steps: int = Field(default=2000, ge=1)
    generator_batch_size: int = Field(default=64, ge=2)
    generator_learning_rate: float = Field(default=1e-3, gt=0)
    head_epochs: int = Field(default=50, ge=1)
    head_learning_rate: float = Field(default=0.03, gt=0)
    learning_rate: float = Field(default=0.01, gt=0)


class MesuConfig(Section):
    """Metaplasticity from synaptic uncertainty: every weight has a mean and a standard deviation.

    New weights deviate by `initial-deviation` of the standard deviation that keeps a layer's variance (1/√inputs).
    `horizon` counts the samples whose evidence the posterior of a prior N(0, `prior-deviation`²) holds on to.
    `mean-rate` (1 in the theory) and `deviation-rate` (1/2) scale the two updates; no step is above `step-ratio` of
    the deviation. Draws of the weights: `samples-training` for each batch, `samples-inference` for each answer.
    """

    initial_deviation: float = Field(default=0.1, gt=0, le=1)
    prior_deviation: float = Field(default=1.0, gt=0)
    horizon: float = Field(default=1e6, ge=1)
    mean_rate: float = Field(default=1000.0, gt=0)
    deviation_rate: float = Field(default=10.0, gt=0)
    second_order: bool = True
    step_ratio: float = Field(default=0.1, gt=0)
    samples_training: int = Field(default=2, ge=1)
    samples_inference: int = Field(default=4, ge=1)
