"""Where a hospital's scans are looked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from braincl_med.settings.config import ExperimentConfig

NOTES = ".scans"
"""The folder, beside a hospital's experiments, of what is known of its own scans; no experiment has such a name."""


@dataclass(frozen=True)
class Place:
    """Where a hospital's scans are looked for, and where what is known of them is kept.

    Attributes:
        folder: of files; None means each source's own.
        site: the hospital's name: in a simulation its own scans may lie in a folder of that name.
        alone: whether `folder` is this hospital's alone, and not one that simulated hospitals share.
        notes: folder for notes on its own scans (`scans.index`); None keeps none.
        hospitals: how many a simulation has, where that is known.
        common: that of a simulation, for notes on scans that its hospitals share: all must have the same splits.
    """

    folder: Path | None
    site: str = ""
    alone: bool = False
    notes: Path | None = None
    hospitals: int | None = None
    common: Path | None = None

    @classmethod
    def simulated(cls, config: ExperimentConfig, number: int) -> Self:
        """That of a simulated hospital."""
        site = f"site-{number}"
        state = config.state_folder
        hospitals = config.federation.hospitals
        notes, common = state / site / NOTES, state / NOTES
        return cls(config.data_folder, site, notes=notes, hospitals=hospitals, common=common)
