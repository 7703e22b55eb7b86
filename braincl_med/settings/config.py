"""One experiment's configuration: every setting, its default and its limits, said once.

Those of the methods to compare with are in `braincl_med.settings.methods`.
An experiment is a YAML file with kebab-case keys in sections, read by `braincl_med.settings.loading`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from braincl_med.settings.methods import DerConfig, EwcConfig, ExemplarConfig, IcarlConfig, MesuConfig, MygoConfig
from braincl_med.settings.section import Identifier, Names, Section

STATE_VARIABLE = "BRAINCL_STATE"
DATA_VARIABLE = "BRAINCL_DATA"


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
    """

    name: Literal["medmnist40", "medmnist12", "medmnist17", "medmnist", "phantom", "tasks"] = "phantom"
    sets: Names = ()
    tasks: tuple[ExplicitTask, ...] = ()
    order: Literal["clinical", "shuffled"] = "clinical"
    task_count: int | None = Field(default=None, ge=1)
    train_per_class: int = Field(default=1000, ge=1)
    test_per_class: int = Field(default=50, ge=1)
    evaluate: Literal["test", "val"] = "test"
    imbalance: float = Field(default=1, ge=1)
    size: Literal[28, 64, 128, 224] = 28
    share: Literal["iid", "dirichlet", "by-class", "one-class"] = "iid"
    alpha: float = Field(default=0.5, gt=0)
    unknown: Names = ()
    fallback: Literal["none", "phantom"] = "none"
    download: bool = True
    allow_unofficial: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "medmnist" and not self.sets:
            raise ValueError("stream-name 'medmnist' needs stream-sets, for example [bloodmnist, breastmnist]")
        if self.name == "tasks" and not self.tasks:
            raise ValueError("stream-name 'tasks' needs stream tasks, each with a name and classes")
        if self.sets and self.name != "medmnist":
            raise ValueError(f"stream-sets belongs to stream-name 'medmnist', not to '{self.name}'")
        if self.tasks and self.name != "tasks":
            raise ValueError(f"stream tasks belong to stream-name 'tasks', not to '{self.name}'")
        return self


class FederationConfig(Section):
    """How many hospitals take part, what happens when some are missing, and how their updates are joined.

    `server-momentum` above 0 is FedAvgM (Hsu et al. 2019) over the rounds of a phase. `classifier-rows: by-class`
    weights each row of the classifier by the hospitals' samples of its class instead of all their samples.
    """

    hospitals: int = Field(default=3, ge=1)
    quorum: int | None = Field(default=None, ge=1)
    wait_seconds: float = Field(default=120, gt=0)
    round_timeout_seconds: float = Field(default=3600, gt=0)
    server_momentum: float = Field(default=0, ge=0, lt=1)
    classifier_rows: Literal["by-examples", "by-class"] = "by-examples"

    @property
    def least(self) -> int:
        """The number of hospitals below which a round fails: all of them unless `quorum` says fewer."""
        return self.hospitals if self.quorum is None else self.quorum

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.least > self.hospitals:
            raise ValueError(f"federation-quorum {self.quorum} is above federation-hospitals {self.hospitals}")
        return self


# What the paper prescribes where our default recipe differs (shape and training of the memory module).
PAPER_RECIPE: dict[str, Any] = {
    "components": 0,
    "down-samplings": 4,
    "lambda": 1e-2,
    "learning-rate": 1e-4,
    "epochs": 100,
    "quantisation": "noise",
    "patience": 100,
}


class MemoryConfig(Section):
    """The memory module of one task: separation, completion and entropy model.

    `recipe: paper` sets what the paper prescribes; keys given beside it still win. `lambda` weighs the mean
    number of bits per cue element against the mean squared error of pixels in [0, 1]. `step` is the cues' quantiser
    step and `weight-step` the one of the completion network's weights (by default the same; without `components`
    the coarsest that costs 0.1 dB), in pixels in [0, 1].
    Of at most `components` principal components those are kept along which scans vary by more than `least-deviation`
    steps. What is kept follows the metric of a guide, trained for at most `guide-steps`, at a share of `guidance`,
    for the rest the squared error. With `components` the separation network is their inverse, and `preset`,
    `hidden-channels`, `quantisation`, `lambda`, `entropy-learning-rate` and `patience` have no effect; `epochs`,
    `batch-size`, `learning-rate` and `gradient-norm` have one only with `refining-channels`. Without, `step`,
    `least-deviation`, `guidance`, `guide-steps` and `refining-channels` have none.
    """

    recipe: Literal["default", "paper"] = "default"
    preset: Literal["small", "paper"] = "small"
    hidden_channels: int | None = Field(default=None, ge=1, le=1024)
    components: int = Field(default=512, ge=0, le=4096)
    step: float = Field(default=0.4, gt=0)
    least_deviation: float = Field(default=0.25, gt=0)
    guidance: float = Field(default=0.5, ge=0, le=0.99)
    guide_steps: int = Field(default=500, ge=1)
    weight_step: float | None = Field(default=None, gt=0)
    refining_channels: int = Field(default=0, ge=0, le=256)
    down_samplings: int = Field(default=5, ge=2, le=6)
    quantisation: Literal["mixed", "noise"] = "mixed"
    lambda_: float = Field(default=1e-3, gt=0, alias="lambda")
    epochs: int = Field(default=12, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    entropy_learning_rate: float = Field(default=1e-3, gt=0)
    gradient_norm: float = Field(default=1.0, gt=0)
    patience: int = Field(default=5, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_recipe(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("recipe") == "paper":
            aliases = {name: field.alias for name, field in cls.model_fields.items()}
            return {**PAPER_RECIPE, **{aliases.get(key) or key: value for key, value in data.items()}}
        return data


class CortexConfig(Section):
    """The shared network: torchvision's ResNet-18, its stem and its normalisation.

    `precision: auto` is bfloat16 where the machine computes in it natively, else float32. `compile` lets
    `torch.compile` build the backbone's kernels, which takes a minute and, on a CPU, a C++ compiler.
    """

    stem: Literal["imagenet", "3x3", "3x3-stride2"] = "3x3"
    norm: Literal["batch", "group"] = "batch"
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
    new_rows: Literal["kaiming", "class-mean"] = "kaiming"
    rows: Literal["new", "all"] = "new"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rounds > self.epochs:
            raise ValueError(f"wake-rounds {self.rounds} is above wake-epochs {self.epochs}")
        return self


class SelectionConfig(Section):
    """Which recalled samples move to long-term memory (eq. 5 and 6)."""

    rule: Literal["nearest", "herding", "random"] = "nearest"
    per_class: int = Field(default=1000, ge=1)


class SleepConfig(Section):
    """Consolidation of the whole network on all of long-term memory, `epochs` in all over `rounds`.

    For classes of different sizes: `balance: loss` weights a class's samples by one over their number, `logits` adds
    the logarithm of each class's share to the logits in training (Menon et al. 2021), both as this hospital has them.
    `proximal` is FedProx's μ (Li et al. 2020). `classifier: discriminant` solves the classifier after the last round
    from moments of all hospitals' features, for which skewed classes are none (`phases.discriminant`).
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
    balance: Literal["none", "loss", "logits"] = "none"
    proximal: float = Field(default=0, ge=0)
    classifier: Literal["trained", "discriminant"] = "trained"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rounds > self.epochs:
            raise ValueError(f"sleep-rounds {self.rounds} is above sleep-epochs {self.epochs}")
        return self


MethodName = Literal["braincl", "joint", "finetune", "ewc", "replay", "replay-webp", "icarl", "der", "mygo", "mesu"]


OWN_LOSS: tuple[MethodName, ...] = ("icarl", "der", "mygo", "mesu")
"""Methods whose loss is not cross-entropy with something added: they know no `balance` and no `proximal`."""
OWN_TRAINING: tuple[MethodName, ...] = ("mygo", "mesu")
"""Of these, those whose hospitals do not count their samples by class."""
ALL_CLASSES: tuple[MethodName, ...] = ("braincl", "joint", "replay", "replay-webp")
"""Methods with a linear classifier that train the whole network on samples of all classes."""


class ExperimentConfig(Section):
    """The whole experiment. `state-root` and `data-root` say where, not what, and are not part of it."""

    name: Identifier = "experiment"
    seed: int = Field(default=1, ge=0, lt=2**31)
    method: MethodName = "braincl"
    resume: bool = False
    state_root: str = ""
    data_root: str = ""
    stream: StreamConfig = StreamConfig()
    federation: FederationConfig = FederationConfig()
    memory: MemoryConfig = MemoryConfig()
    cortex: CortexConfig = CortexConfig()
    wake: WakeConfig = WakeConfig()
    selection: SelectionConfig = SelectionConfig()
    sleep: SleepConfig = SleepConfig()
    exemplars: ExemplarConfig = ExemplarConfig()
    ewc: EwcConfig = EwcConfig()
    icarl: IcarlConfig = IcarlConfig()
    der: DerConfig = DerConfig()
    mygo: MygoConfig = MygoConfig()
    mesu: MesuConfig = MesuConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method == "braincl" and self.selection.per_class > self.stream.train_per_class:
            raise ValueError(
                f"selection-per-class {self.selection.per_class} is above stream-train-per-class "
                f"{self.stream.train_per_class}: no class has that many scans to select from"
            )
        if self.method in OWN_LOSS and (self.sleep.balance != "none" or self.sleep.proximal):
            raise ValueError(
                f"method {self.method} has a loss of its own: leave out sleep-balance and sleep-proximal"
            )
        if self.method in OWN_TRAINING and self.federation.classifier_rows == "by-class":
            raise ValueError(
                f"method {self.method} does not count samples by class: leave out federation-classifier-rows"
            )
        if self.sleep.classifier == "discriminant" and self.method not in ALL_CLASSES:
            raise ValueError(
                f"method {self.method} has no linear classifier with samples of all classes: "
                "leave out sleep-classifier"
            )
        if self.sleep.classifier == "discriminant" and self.method == "braincl" and not self.sleep.enabled:
            raise ValueError(
                "sleep-classifier 'discriminant' follows sleep: leave it out where sleep-enabled is false"
            )
        return self

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
        """The configuration without what only says where, how long and for how many to wait, or whether to resume."""
        settings = self.model_dump(mode="json", by_alias=True)
        for key in ("resume", "state-root", "data-root"):
            del settings[key]
        for key in ("quorum", "wait-seconds", "round-timeout-seconds"):
            del settings["federation"][key]
        for key in ("download", "fallback"):
            del settings["stream"][key]
        return settings
