"""One experiment's configuration: every setting, its default and its limits, said once.

Those of the memory module are in `settings.memory`, those of federation and privacy in `settings.federation` and
`settings.privacy`, those of the methods to compare with in `settings.methods`.
An experiment is a YAML file with kebab-case keys in sections, read by `settings.loading`.
"""

import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from braincl_med.settings.federation import FederationConfig
from braincl_med.settings.memory import LinearMemory, MemoryConfig
from braincl_med.settings.methods import (
    FACTS,
    METHOD_SECTIONS,
    AnalyticConfig,
    EwcConfig,
    ExemplarConfig,
    MesuConfig,
    MethodFacts,
    MygoConfig,
    Rule,
)
from braincl_med.settings.privacy import OUTSIDE, PrivacyConfig
from braincl_med.settings.section import Identifier, Names, Section

STATE_VARIABLE = "BRAINCL_STATE"
DATA_VARIABLE = "BRAINCL_DATA"


Fit = Literal["pad", "crop"]
"""How a scan that is no square becomes one: with black borders, or by its middle."""


class ExplicitTask(Section):
    """A task spelled out: its name and its classes as `dataset/label`."""

    name: Identifier
    classes: Annotated[Names, Field(min_length=1)]


class StreamConfig(Section):
    """Which scans become which tasks, and how the hospitals share them.

    With `imbalance` above 1 the commonest class has `train-per-class` scans and the rarest as many divided by it, the
    others a geometric series between them, in an order drawn by the seed. `share` says how each task's scans are
    divided (`streams.shares`): evenly, in Dirichlet proportions (`alpha`), every class at as few hospitals as can be,
    or evenly but for the last hospital, which has scans of one class of the task alone. With `evaluate: val`
    answers to validation scans are counted, so that settings can be chosen without a look at the test scans.
    `examine` says after which tasks hospitals examine the network too (`methods.examine`), on at most
    `examined-per-class` scans of a class.
    `fit` says how a hospital's own pictures become squares, and `bad-scans` whether files that are no scans to learn
    from (`scans.refusals`) stop it or are left out. With `cache` their pixels lie at the hospital, as raw scans, from
    the look through its folder until they are encoded, so that each is decoded once.
    """

    name: Literal["medmnist40", "medmnist12", "medmnist17", "medmnist", "phantom", "tasks"] = "phantom"
    sets: Names = ()
    tasks: tuple[ExplicitTask, ...] = ()
    order: Literal["clinical", "shuffled"] = "clinical"
    task_count: int | None = Field(default=None, ge=1)
    train_per_class: int = Field(default=1000, ge=1)
    test_per_class: int = Field(default=50, ge=1)
    evaluate: Literal["test", "val"] = "test"
    examine: Literal["never", "last", "each"] = "never"
    examined_per_class: int = Field(default=20, ge=1, le=10_000)
    imbalance: float = Field(default=1, ge=1)
    size: int = Field(default=28, ge=28, le=224, multiple_of=4)
    share: Literal["iid", "dirichlet", "by-class", "one-class"] = "iid"
    alpha: float = Field(default=0.5, gt=0)
    unknown: Names = ()
    fit: Fit = "pad"
    bad_scans: Literal["refuse", "skip"] = "refuse"
    cache: bool = False
    fallback: Literal["none", "phantom"] = "none"
    download: bool = True
    allow_unofficial: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "medmnist" and not self.sets:
            raise ValueError("stream-name 'medmnist' needs stream-sets, for example [bloodmnist, breastmnist]")
        if self.name == "tasks" and not self.tasks:
            raise ValueError("stream-name 'tasks' needs stream tasks, each with a name and classes")
        if self.name == "tasks" and (self.task_count is not None or self.order != "clinical"):
            raise ValueError("stream tasks have their number and order: leave out stream-task-count and stream-order")
        if self.sets and self.name != "medmnist":
            raise ValueError(f"stream-sets belongs to stream-name 'medmnist', not to '{self.name}'")
        if self.tasks and self.name != "tasks":
            raise ValueError(f"stream tasks belong to stream-name 'tasks', not to '{self.name}'")
        return self


class CortexConfig(Section):
    """The shared network: its backbone, where that starts from, and how it computes.

    `network` is `resnet18`, to which `stem` and `norm` belong, or a network of timm's registry. `weights` names a
    file on the server's machine with the backbone's weights to start from; without one they are drawn by the seed.
    Scans are resampled to `input` pixels a side on the network's device, where that is given. With `features` a fixed
    linear map, which `weights` must hold (`braincl start`), makes that many of the backbone's (`cortex.reduction`).
    With `projection` a fixed random map, drawn by the seed, makes that many of them (`cortex.projection`), before a
    classifier that is solved.
    `precision: auto` is bfloat16 where the machine computes in it natively, else float32. `compile` lets
    `torch.compile` build the backbone's kernels, which takes a minute and, on a CPU, a C++ compiler.
    """

    network: str = "resnet18"
    stem: Literal["imagenet", "3x3", "3x3-stride2"] = "3x3"
    norm: Literal["batch", "group"] = "batch"
    weights: str = ""
    input: int | None = Field(default=None, ge=8, le=1024)
    features: int | None = Field(default=None, ge=2, le=4096)
    projection: int | None = Field(default=None, ge=2, le=8192)
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    compile: bool = False


class WakeConfig(Section):
    """Training of the classifier on recalled scans of the new task, the backbone frozen (eq. 4).

    With `rows: new` the new classes compete among themselves and the old rows stay as they are, so that a single new
    class has nothing to learn; with `all`, as in the paper, also with all others, of which there is no sample.
    """

    enabled: bool = True
    rounds: int = Field(default=1, ge=1)
    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=2e-4, ge=0)
    rows: Literal["new", "all"] = "new"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rounds > self.epochs:
            raise ValueError(f"wake-rounds {self.rounds} is above wake-epochs {self.epochs}")
        return self


class SelectionConfig(Section):
    """Which recalled samples move to long-term memory (eq. 5 and 6)."""

    rule: Rule = "nearest"
    per_class: int = Field(default=1000, ge=1)


class SleepConfig(Section):
    """Consolidation of the whole network on all of long-term memory, `epochs` in all over `rounds`.

    For classes of different sizes: `balance: loss` weights a class's samples by one over their number, `logits` adds
    the logarithm of each class's share to the logits in training (Menon et al. 2021), `present` leaves classes
    without a sample out of the softmax (Li & Zhan 2021), all as this hospital has them.
    `proximal` is FedProx's μ (Li et al. 2020). `classifier: discriminant` solves the classifier after the last round
    from moments of all hospitals' features, for which skewed classes are none (`phases.discriminant`).
    With a `budget` an epoch takes the new task and that many times its number of samples from all former ones
    (`phases.budget`): a task costs as much as the one before it. Without, an epoch takes everything.
    """

    enabled: bool = True
    rounds: int = Field(default=4, ge=1)
    epochs: int = Field(default=60, ge=1)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=2e-4, ge=0)
    schedule: Literal["steps", "cosine"] = "steps"
    crop_padding: int = Field(default=2, ge=0)
    flip: bool = True
    dithering: float = Field(default=0, ge=0, le=0.5)
    balance: Literal["none", "loss", "logits", "present"] = "none"
    proximal: float = Field(default=0, ge=0)
    classifier: Literal["trained", "discriminant"] = "trained"
    budget: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rounds > self.epochs:
            raise ValueError(f"sleep-rounds {self.rounds} is above sleep-epochs {self.epochs}")
        return self


class ExperimentConfig(Section):
    """The whole experiment. `state-root` and `data-root` say where, not what, and are not part of it.

    Nor are `vault-key` and `network-key`, which name the places of the keys of simulated hospitals (`vault.keys`). A
    hospital's own machine takes keys from its node's configuration alone.
    """

    name: Identifier = "experiment"
    seed: int = Field(default=1, ge=0, lt=2**31)
    method: str = "braincl"
    resume: bool = False
    state_root: str = ""
    data_root: str = ""
    vault_key: str = ""
    network_key: str = ""
    stream: StreamConfig = StreamConfig()
    federation: FederationConfig = FederationConfig()
    memory: MemoryConfig = LinearMemory()
    cortex: CortexConfig = CortexConfig()
    wake: WakeConfig = WakeConfig()
    selection: SelectionConfig = SelectionConfig()
    sleep: SleepConfig = SleepConfig()
    exemplars: ExemplarConfig = ExemplarConfig()
    ewc: EwcConfig = EwcConfig()
    mygo: MygoConfig = MygoConfig()
    mesu: MesuConfig = MesuConfig()
    analytic: AnalyticConfig = AnalyticConfig()
    privacy: PrivacyConfig = PrivacyConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        facts = self.facts
        if "selection" in facts.sections and self.selection.per_class > self.stream.train_per_class:
            raise ValueError(
                f"selection-per-class {self.selection.per_class} is above stream-train-per-class "
                f"{self.stream.train_per_class}: no class has that many scans to select from"
            )
        if facts.own_loss and (self.sleep.balance != "none" or self.sleep.proximal):
            raise ValueError(
                f"method {self.method} has a loss of its own: leave out sleep-balance and sleep-proximal"
            )
        if not facts.counts_classes and self.federation.classifier_rows == "by-class":
            raise ValueError(
                f"method {self.method} does not count samples by class: leave out federation-classifier-rows"
            )
        if self.sleep.classifier == "discriminant" and not facts.all_classes:
            raise ValueError(
                f"method {self.method} has no linear classifier with samples of all classes: "
                "leave out sleep-classifier"
            )
        if self.sleep.classifier == "discriminant" and "wake" in facts.sections and not self.sleep.enabled:
            raise ValueError(
                "sleep-classifier 'discriminant' follows sleep: leave it out where sleep-enabled is false"
            )
        if self.stream.examine != "never" and (self.privacy.mode != "off" or self.federation.masked):
            raise ValueError(
                f"stream-examine '{self.stream.examine}' lets every hospital tell counts that neither privacy-mode "
                "nor federation-masking would cover: leave it out"
            )
        if self.privacy.mode != "off" and self.method != "braincl":
            raise ValueError(f"privacy-mode '{self.privacy.mode}' is for method braincl, not for {self.method}")
        for section, key, allowed, reason in OUTSIDE[self.privacy.mode]:
            value = getattr(getattr(self, section), key, None)
            if value not in allowed if allowed else value is None:
                name = f"{section}-{key.replace('_', '-')}"
                raise ValueError(
                    f"privacy-mode '{self.privacy.mode}' cannot bound {name} {value!r}: {reason}; set {name}"
                    + (f" to {' or '.join(map(str, allowed))}" if allowed else "")
                )
        if self.privacy.noise == "shared" and not (self.privacy.mode == "statistics" and self.federation.masked):
            raise ValueError(
                "privacy-noise 'shared' bounds sums alone, not what one hospital tells: set privacy-mode to "
                "statistics and federation-masking to on"
            )
        return self

    @model_validator(mode="after")
    def _check_what_is_solved(self) -> Self:
        """Settings that go with sums of features, from which a classifier or familiarity is solved."""
        facts = self.facts
        if self.federation.robust != "none" and (self.tells_moments or self.privacy.mode == "statistics"):
            raise ValueError(
                f"federation-robust '{self.federation.robust}' guards averages of weights, and sleep-classifier "
                "'discriminant', federation-familiarity 'shared', privacy-mode 'statistics' and method analytic are "
                "sums, in which every hospital's part counts: leave it out"
            )
        if self.cortex.projection is not None and not facts.frozen:
            raise ValueError(
                f"cortex-projection goes before a classifier that is solved on a frozen backbone, and method "
                f"{self.method} trains both: leave it out, or set method to analytic"
            )
        sleeps_on_all = facts.all_classes and self.sleep.enabled
        if self.federation.familiarity == "shared" and not (sleeps_on_all or facts.frozen):
            raise ValueError(
                "federation-familiarity 'shared' needs a method that trains the whole network on samples of all "
                "classes, and sleep: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_budget(self) -> Self:
        if self.sleep.budget is None:
            return self
        if not self.facts.all_classes:
            raise ValueError(
                f"sleep-budget draws from samples of former classes, on which method {self.method} does not train: "
                "leave it out"
            )
        if self.privacy.mode != "off":
            raise ValueError(f"privacy-mode '{self.privacy.mode}' draws samples by itself: leave out sleep-budget")
        return self

    @property
    def tells_moments(self) -> bool:
        """Whether hospitals tell the moments of features of their samples: of all tasks, or of each anew."""
        shared = self.federation.familiarity == "shared"
        return self.sleep.classifier == "discriminant" or shared or self.facts.frozen

    @property
    def farthest(self) -> float:
        """How many times the network's size an update may lie from what was sent.

        The noise of private updates is as large as it must be, so how far it takes a network says nothing.
        """
        return math.inf if self.privacy.mode == "updates" else self.federation.farthest

    @property
    def facts(self) -> MethodFacts:
        """What the settings must know of the method.

        Raises:
            ValueError: there is no such method.
        """
        if self.method not in FACTS:
            raise ValueError(f"'method' is '{self.method}', expected one of: {', '.join(FACTS)}")
        return FACTS[self.method]

    @property
    def state_folder(self) -> Path:
        """Where the server keeps its run store and checkpoints, and simulated hospitals their vaults."""
        return Path(self.state_root or os.environ.get(STATE_VARIABLE) or "~/.braincl").expanduser()

    @property
    def data_folder(self) -> Path | None:
        """Where MedMNIST files lie; None means medmnist's own folder."""
        named = self.data_root or os.environ.get(DATA_VARIABLE)
        return Path(named).expanduser() if named else None

    def as_result_settings(self) -> dict[str, Any]:
        """What decides the result: the configuration without sections that the method does not use, and without what
        only says where, how long and for how many to wait, or whether to resume (`FREE`).
        """
        settings = self.model_dump(mode="json", by_alias=True)
        unused = METHOD_SECTIONS - set(self.facts.sections)
        kept = {key: value for key, value in settings.items() if key not in unused}
        return _without(kept, FREE)


FREE: tuple[str, ...] = (
    "resume", "state-root", "data-root", "vault-key", "network-key", "federation-quorum", "federation-wait-seconds",
    "federation-round-timeout-seconds", "federation-farthest", "stream-download", "stream-fallback",
    "stream-bad-scans", "stream-cache", "stream-examine", "stream-examined-per-class", "cortex-weights",
    "privacy-epsilon",
)  # fmt: skip
"""Keys that may change at any time, also within a task."""
BETWEEN_TASKS: tuple[str, ...] = (
    "wake", "sleep", "selection", "federation-server-momentum", "federation-classifier-rows",
    "federation-familiarity", "federation-robust", "federation-masking", "federation-masking-threshold",
    "federation-smallest-group", "federation-update-bits", "stream-train-per-class", "stream-fit",
)  # fmt: skip
"""Keys, or sections, that may change when a task is learned and the next is not begun: how it is learned, and from
how many scans. All others are fixed once an experiment has begun."""
NETWORK: tuple[str, ...] = ("cortex-network", "cortex-stem", "cortex-norm", "cortex-input", "cortex-features")
"""Keys by which, between two tasks, another network takes the place of the shared one (`federation.swap`)."""
JOINING = "federation-hospitals"
"""The key that may change whenever no run goes on, and is recorded: begun tasks stay dealt out as they were."""
ENCODED: tuple[str, ...] = ("stream-train-per-class", "stream-fit")
"""Of these, those that are fixed as soon as a hospital has encoded the next task: they decide from which scans."""


def _without(settings: dict[str, Any], keys: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
    return {
        key: _without(value, keys, f"{prefix}{key}-") if isinstance(value, dict) and not prefix else value
        for key, value in settings.items()
        if f"{prefix}{key}" not in keys
    }
