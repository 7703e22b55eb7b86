"""Settings of what hospitals and server do together: who takes part, how updates are summed, masked and judged."""

from typing import Literal, Self

from pydantic import Field, model_validator

from braincl_med.settings.section import Section

FEWEST_MASKED = 3
"""Hospitals of a masked sum: of two, each could subtract its own."""
MOST_MASKED = 100
"""Shares grow with the square of their number, to half a megabyte a hospital."""
FEWEST_ROBUST = 3
"""Hospitals of which a liar alone is not in the middle."""


class FederationConfig(Section):
    """How many hospitals take part, what happens when some are missing, and how their updates are joined.

    `server-momentum` above 0 is FedAvgM (Hsu et al. 2019) over the rounds of a phase. `classifier-rows: by-class`
    weights each row of the classifier by the hospitals' samples of its class instead of all their samples.
    With `familiarity: shared` hospitals tell, after the last round of sleep, the moments of the features of what they
    recall (`cortex.gaussians`), as they do for a solved classifier: unknown scans are then told apart by what all of
    them remember, also by the network where it is used alone. With `own` nobody tells them.
    `robust` joins the hospitals' weights by a coordinate-wise `median` or `trimmed-mean` (Yin et al. 2018) instead of
    their average: each hospital then has one voice. An update that lies more than `farthest` times the network's size
    from what was sent is left out, but under `privacy-mode: updates`, whose noise lies far away by design.
    With `masking: on` the server sees sums over hospitals and never one hospital's numbers (docs/masking.md), of at
    least `masking-threshold` of them (two thirds where it is not said), which then also is the quorum; what is
    counted of fewer than `smallest-group` scans is not recorded.
    With `update-bits: 8` the steps of the backbone, of each hospital and of their mean, are rounded at random to 8
    bits a number (`cortex.quantised`), and go over the wire as such; a masked update is not rounded.
    """

    hospitals: int = Field(default=3, ge=1)
    quorum: int | None = Field(default=None, ge=1)
    wait_seconds: float = Field(default=120, gt=0)
    round_timeout_seconds: float = Field(default=3600, gt=0)
    server_momentum: float = Field(default=0, ge=0, lt=1)
    classifier_rows: Literal["by-examples", "by-class"] = "by-examples"
    familiarity: Literal["own", "shared"] = "own"
    robust: Literal["none", "trimmed-mean", "median"] = "none"
    farthest: float = Field(default=10, gt=0)
    masking: Literal["off", "on"] = "off"
    masking_threshold: int | None = Field(default=None, ge=2)
    smallest_group: int = Field(default=5, ge=1)
    update_bits: Literal[32, 8] = 32

    @property
    def least(self) -> int:
        """The number of hospitals below which a round fails: all of them unless `quorum` says fewer.

        Under masks the threshold unless `quorum` says more.
        """
        if self.quorum is not None:
            return self.quorum
        return self.masked_least if self.masked else self.hospitals

    @property
    def masked(self) -> bool:
        """Whether the server sees sums alone."""
        return self.masking == "on"

    @property
    def masked_least(self) -> int:
        """How many hospitals are in every sum of an honest server, at least; 1 without masks.

        Any two sets of as many hospitals have some in common, which tell the shares of a sum once: so no server gets
        both kinds of shares of one hospital, unless 2t − n collude with it (Bonawitz et al. 2017).
        """
        if not self.masked:
            return 1
        return -(-2 * self.hospitals // 3) if self.masking_threshold is None else self.masking_threshold

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.masked and not FEWEST_MASKED <= self.hospitals <= MOST_MASKED:
            raise ValueError(
                f"federation-masking needs {FEWEST_MASKED} to {MOST_MASKED} hospitals, federation-hospitals is "
                f"{self.hospitals}"
            )
        if self.masked and not self.hospitals < 2 * self.masked_least <= 2 * self.hospitals:
            raise ValueError(
                f"federation-masking-threshold {self.masking_threshold} must be more than half of the "
                f"{self.hospitals} hospitals, and not above them"
            )
        if self.masked and self.least < self.masked_least:
            raise ValueError(
                f"federation-quorum {self.quorum} is below the {self.masked_least} hospitals that unmask a sum "
                "(federation-masking-threshold)"
            )
        if self.robust != "none" and self.masked:
            raise ValueError(
                f"federation-robust '{self.robust}' needs single hospitals' weights, and with federation-masking the "
                "server sees their sum alone: leave one of them out"
            )
        if self.robust != "none" and self.classifier_rows == "by-class":
            raise ValueError(
                f"federation-robust '{self.robust}' gives each hospital one voice, and federation-classifier-rows "
                "'by-class' as many as samples: leave one of them out"
            )
        if self.robust != "none" and self.least < FEWEST_ROBUST:
            raise ValueError(
                f"federation-robust '{self.robust}' needs {FEWEST_ROBUST} answers, and {self.least} would do here "
                "(federation-hospitals, federation-quorum)"
            )
        if self.least > self.hospitals:
            raise ValueError(f"federation-quorum {self.quorum} is above federation-hospitals {self.hospitals}")
        return self
