"""Settings of the memory module: two recipes that share no training, each with the keys that act in it."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from braincl_med.settings.section import Names, Section, kebab


class LinearMemory(Section):
    """A linear path solved in closed form, the default (docs/decisions/0002-linear-path.md).

    Of at most `components` principal components those are kept along which scans vary by more than `least-deviation`
    quantiser `step`s. What is kept follows the metric of a guide, trained for at most `guide-steps`, at a share of
    `guidance`, for the rest the squared error. `weight-step` is the step of the completion network's weights, by
    default the cues'. `basis` says what teaches the components: the task's scans; nothing (`fixed`, a discrete cosine
    transform, so that the completion network tells of no scan); or the scans of the `public` sets. Steps are in
    pixels in [0, 1]. `epochs`, `batch-size` and `learning-rate` train the
    `refining-channels`, of which there are none by default.
    """

    REFINING: ClassVar = ("epochs", "batch_size", "learning_rate")

    recipe: Literal["default"] = "default"
    basis: Literal["task", "fixed", "public"] = "task"
    public: Names = ()
    components: int = Field(default=512, ge=1, le=4096)
    step: float = Field(default=0.4, gt=0)
    least_deviation: float = Field(default=0.25, gt=0)
    guidance: float = Field(default=0.5, ge=0, le=0.99)
    guide_steps: int = Field(default=500, ge=1)
    weight_step: float | None = Field(default=None, gt=0)
    down_samplings: int = Field(default=5, ge=2, le=6)
    refining_channels: int = Field(default=0, ge=0, le=256)
    epochs: int = Field(default=12, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        idle = [key for key in self.REFINING if getattr(self, key) != type(self).model_fields[key].default]
        if idle and not self.refining_channels:
            raise ValueError(
                f"memory-{kebab(idle[0])} has no effect without memory-refining-channels: leave it out, or set them"
            )
        if bool(self.public) != (self.basis == "public"):
            raise ValueError("memory-public names the sets that teach memory-basis 'public': set both or neither")
        if self.basis == "fixed" and self.refining_channels:
            raise ValueError(
                "memory-refining-channels learn from the task's scans: leave them out with a fixed basis"
            )
        return self


class PaperMemory(Section):
    """The paper's convolutions with their entropy model (arXiv 2504.14727), whose values are the defaults.

    `preset` says how wide the networks are. `lambda` weighs the mean number of bits per cue element against the mean
    squared error of pixels in [0, 1]. Training's `quantisation` is `noise` for both losses, or `mixed`: noise for
    the entropy, rounding for the recall. `weight-step` is the step of the completion network's weights, by default
    the coarsest that costs 0.1 dB. Training stops when the loss has not fallen for `patience` epochs.
    """

    recipe: Literal["paper"] = "paper"
    preset: Literal["small", "paper"] = "small"
    weight_step: float | None = Field(default=None, gt=0)
    down_samplings: int = Field(default=4, ge=2, le=6)
    quantisation: Literal["mixed", "noise"] = "noise"
    lambda_: float = Field(default=1e-2, gt=0, alias="lambda")
    epochs: int = Field(default=100, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    patience: int = Field(default=100, ge=1)


def _recipe(value: Any) -> str:
    return str(value.get("recipe", "default")) if isinstance(value, dict) else getattr(value, "recipe", "default")


RECIPES: dict[str, type[LinearMemory] | type[PaperMemory]] = {"default": LinearMemory, "paper": PaperMemory}
MemoryConfig = Annotated[
    Annotated[LinearMemory, Tag("default")] | Annotated[PaperMemory, Tag("paper")], Discriminator(_recipe)
]
"""Either recipe; a key of the other one is refused, as it would have no effect."""

ONE_SECTION: dict[str, Any] = {
    "preset": "small",
    "hidden_channels": None,
    "components": 0,
    "step": 0.4,
    "least_deviation": 0.25,
    "guidance": 0.5,
    "guide_steps": 500,
    "weight_step": None,
    "refining_channels": 0,
    "quantisation": "mixed",
    "lambda_": 1e-3,
    "entropy_learning_rate": 1e-3,
    "gradient_norm": 1.0,
    "patience": 5,
}
"""What both recipes had while they were one section, each with the other's keys at these values."""


def spelled_as_one_section(memory: LinearMemory | PaperMemory) -> dict[str, Any]:
    """The settings as they were spelled in one section, under which existing memories are keyed.

    A basis that the task's scans teach, as all did then, is not spelled.
    """
    spelled = {**ONE_SECTION, **memory.model_dump(mode="json")}
    basis, public = spelled.pop("basis", "task"), spelled.pop("public", [])
    return spelled if basis == "task" else {**spelled, "basis": basis, "public": public}


def parted(section: dict[str, Any]) -> dict[str, Any]:
    """Former settings of one section, with kebab-case keys, without those that had no effect in their recipe."""
    linear = section.get("recipe", "default") == "default" and section.get("components", 512) != 0
    kind = LinearMemory if linear else PaperMemory
    keys = {field.alias or kebab(name) for name, field in kind.model_fields.items()}
    if linear and not section.get("refining-channels"):
        keys -= {kebab(name) for name in LinearMemory.REFINING}
    return {
        **{key: value for key, value in section.items() if key in keys},
        "recipe": "default" if linear else "paper",
    }
