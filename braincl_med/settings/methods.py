"""What the configuration knows of methods: facts of each, and the settings of those that BrainCL is compared with.

Kept apart from `methods`, so that settings, tables and the dashboard need none of their code.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from braincl_med.settings.section import Section

Rule = Literal["nearest", "herding", "random"]
"""How samples are chosen by their features: nearest to the class mean, by herding, or at random (`phases.select`)."""


Codec = Literal["raw", "webp"]
"""How exemplars are kept: as pixels, or on lossy WebP sheets."""


class ExemplarConfig(Section):
    """What Replay, Replay-WebP, iCaRL and DER keep of a task: raw scans, or lossy WebP sheets of them.

    `per-class` exemplars of each class at a hospital; or, with `bytes-per-scan` b, as many as fit into b bytes for
    every training scan of the task, shared evenly by its classes: the same bytes as another memory. With the codec
    `raw` a scan costs its pixels' bytes (a grey one has one channel); with `webp`, which Replay-WebP has always,
    sheets of `webp-quality` cost their bytes and those of their lengths. `rule` chooses by features of the network
    just trained; each hospital chooses among its own scans.
    """

    codec: Codec = "raw"
    per_class: int = Field(default=20, ge=1)
    bytes_per_scan: float | None = Field(default=None, gt=0)
    rule: Rule = "herding"
    webp_quality: int = Field(default=30, ge=0, le=100)


class EwcConfig(Section):
    """Elastic weight consolidation: `strength` is the λ of its penalty.

    `plain` keeps the Fisher information and the weights after every task; `online` keeps the sum over tasks and the
    latest weights.
    """

    strength: float = Field(default=1000.0, gt=0)
    variant: Literal["plain", "online"] = "plain"


class MygoConfig(Section):
    """MyGO: the kind of its generator of dreams, and its training.

    New rows of the classifier are trained under `wake`, but for `head-epochs` and at `head-learning-rate`; the whole
    network under `sleep`, from the second task on by distillation and at `learning-rate`.
    """

    generator: Literal["convolutional", "mlp"] = "convolutional"
    generator_steps: int = Field(default=2000, ge=1)
    head_epochs: int = Field(default=50, ge=1)
    head_learning_rate: float = Field(default=0.03, gt=0)
    learning_rate: float = Field(default=0.01, gt=0)


class MesuConfig(Section):
    """Metaplasticity from synaptic uncertainty: every weight has a mean and a standard deviation.

    `mean-rate` (1 in the theory) and `deviation-rate` (1/2) scale the two updates.
    """

    mean_rate: float = Field(default=1000.0, gt=0)
    deviation_rate: float = Field(default=10.0, gt=0)


class AnalyticConfig(Section):
    """The classifier of a frozen backbone, solved in closed form: `ridge` is the share of the mean variance that is
    added to the variance of every feature (docs/decisions/0022-analytic.md).
    """

    ridge: float = Field(default=1, gt=0)


@dataclass(frozen=True)
class MethodFacts:
    """What must be known of a method without its code.

    Attributes:
        sections: of the configuration that decide its result, besides the stream, the federation and the cortex.
        own_loss: its loss is not cross-entropy with something added: it knows no `balance` and no `proximal`.
        counts_classes: its hospitals count their samples by class, where the server asks for it.
        all_classes: it trains the whole network, with a linear classifier, on samples of all classes.
        keeps_raw_scans: it trains on raw scans of former tasks, which no bytes at rest count.
        frozen: it never trains its backbone, and solves its classifier from sums of features over tasks.
    """

    sections: tuple[str, ...] = ("sleep",)
    own_loss: bool = False
    counts_classes: bool = True
    all_classes: bool = False
    keeps_raw_scans: bool = False
    frozen: bool = False


FACTS: dict[str, MethodFacts] = {
    "braincl": MethodFacts(("memory", "wake", "selection", "sleep"), all_classes=True),
    "joint": MethodFacts(all_classes=True, keeps_raw_scans=True),
    "finetune": MethodFacts(),
    "ewc": MethodFacts(("sleep", "ewc")),
    "replay": MethodFacts(("sleep", "exemplars"), all_classes=True),
    "replay-webp": MethodFacts(("sleep", "exemplars"), all_classes=True),
    "icarl": MethodFacts(("sleep", "exemplars"), own_loss=True),
    "der": MethodFacts(("sleep", "exemplars"), own_loss=True),
    "mygo": MethodFacts(("wake", "sleep", "mygo"), own_loss=True, counts_classes=False),
    "mesu": MethodFacts(("sleep", "mesu"), own_loss=True, counts_classes=False),
    "analytic": MethodFacts(("analytic",), own_loss=True, counts_classes=False, frozen=True),
}
"""Of every method, by the name that `method` takes in a configuration."""
METHOD_SECTIONS = frozenset({"memory", "wake", "selection", "sleep", "exemplars", "ewc", "mygo", "mesu", "analytic"})
"""Sections that some methods use and others do not."""
