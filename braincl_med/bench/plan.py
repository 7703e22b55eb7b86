"""What a benchmark compares: rows (a method and its settings) on streams, each with several seeds."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from braincl_med.foundation.errors import ConfigError
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.loading import load_experiment, packaged_configs
from braincl_med.settings.methods import FACTS
from braincl_med.settings.reading import find, read_file
from braincl_med.settings.section import Identifier, Section, explain, kebab

Overrides = dict[str, bool | int | float | str]


def _as_overrides(value: Any) -> Any:
    return {} if value is None else value


Settings = Annotated[Overrides, BeforeValidator(_as_overrides)]


class Row(Section):
    """One line of the table.

    Attributes:
        name: as the table says it.
        set_: flat keys that differ from the benchmark's.
        equal_bytes_to: another row; this one's exemplars get as many bytes a scan as that one took in all.
    """

    name: str = Field(min_length=1, max_length=40)
    set_: Settings = Field(default_factory=dict, alias="set")
    equal_bytes_to: str | None = None


class BenchConfig(Section):
    """A benchmark.

    Attributes:
        name: of the benchmark; experiments and files are called after it.
        experiment: the experiment that all cells share: a packaged name or a path.
        set_: flat keys that all cells share.
        streams: further flat keys by a stream's name; a table for each.
        seeds: every row runs with each.
        rows: in the table's order.
    """

    name: Identifier
    experiment: str
    set_: Settings = Field(default_factory=dict, alias="set")
    streams: dict[Identifier, Settings] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    rows: tuple[Row, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> "BenchConfig":
        slugs = [slug(row.name) for row in self.rows]
        twice = sorted({s for s in slugs if slugs.count(s) > 1})
        if twice:
            raise ValueError(f"two rows have one name: {', '.join(twice)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"a seed stands there twice: {', '.join(map(str, self.seeds))}")
        plain = {row.name for row in self.rows if row.equal_bytes_to is None}
        for row in self.rows:
            if row.equal_bytes_to is not None and row.equal_bytes_to not in plain:
                raise ValueError(f"row '{row.name}': there is no row '{row.equal_bytes_to}' to be equal to")
        return self


@dataclass(frozen=True)
class Cell:
    """One run: a row on a stream with a seed."""

    bench: BenchConfig
    stream: str
    row: Row
    seed: int

    @property
    def name(self) -> str:
        """The experiment's name in the run store."""
        return f"{self.bench.name}-{self.stream}-{slug(self.row.name)}-seed-{self.seed}"

    @property
    def rival(self) -> "Cell | None":
        """The cell that this one's exemplars must not outweigh."""
        row = next((r for r in self.bench.rows if r.name == self.row.equal_bytes_to), None)
        return None if row is None else Cell(self.bench, self.stream, row, self.seed)

    def experiment(self, state: Path, bytes_per_scan: float | None = None) -> ExperimentConfig:
        """The cell's configuration.

        Args:
            state: the state root.
            bytes_per_scan: what the rival took, for a row that has one.

        Raises:
            ConfigError: a key or value is refused.
        """
        overrides: dict[str, Any] = {
            **self.bench.set_,
            **self.bench.streams[self.stream],
            **self.row.set_,
            "name": self.name,
            "seed": self.seed,
            "state-root": str(state.resolve()),
            "resume": True,
        }
        if bytes_per_scan is not None:
            overrides["exemplars-bytes-per-scan"] = bytes_per_scan
        return load_experiment(self.bench.experiment, overrides)


def chosen(bench: BenchConfig, rows: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[Cell]:
    """The cells of these rows and seeds (of all when none are given), after those whose bytes they need.

    Raises:
        ConfigError: the benchmark has no such row or seed.
    """
    known: tuple[tuple[str, Sequence[str | int], Sequence[str | int]], ...] = (
        ("row", rows, [row.name for row in bench.rows]),
        ("seed", seeds, bench.seeds),
    )
    for what, asked, held in known:
        if unknown := [one for one in asked if one not in held]:
            raise ConfigError(f"no {what} '{unknown[0]}' in '{bench.name}', it has: {', '.join(map(str, held))}")
    wanted = [c for c in cells_of(bench) if (not rows or c.row.name in rows) and (not seeds or c.seed in seeds)]
    rivals = {cell.rival.name: cell.rival for cell in wanted if cell.rival is not None}
    return list({**rivals, **{cell.name: cell for cell in wanted}}.values())


def cells_of(bench: BenchConfig) -> Iterator[Cell]:
    """All cells, seed by seed, and within a seed rows that others are compared with first."""
    ordered = sorted(bench.rows, key=lambda row: row.equal_bytes_to is not None)
    for seed in bench.seeds:
        for stream in bench.streams:
            for row in ordered:
                yield Cell(bench, stream, row, seed)


def slug(name: str) -> str:
    """A row's name in small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def load_bench(source: str) -> BenchConfig:
    """Read a benchmark from a YAML file, or one that travels with the code by its name.

    Raises:
        ConfigError: there is no such file, or a key or value in it or in one of its cells is refused.
    """
    path = find(source, packaged_configs() / "bench", "benchmark")
    try:
        bench = BenchConfig.model_validate(read_file(path))
    except ValidationError as error:
        raise ConfigError(f"'{path.name}': {explain(error, [*map(kebab, BenchConfig.model_fields)])}") from None
    for cell in cells_of(bench):
        try:
            method = cell.experiment(Path("."), None if cell.rival is None else 1.0).method
            if cell.rival is not None:
                _check_bytes(cell.rival, method)
        except ConfigError as error:
            raise ConfigError(f"'{path.name}', row '{cell.row.name}': {error}") from None
    return bench


def _check_bytes(rival: Cell, method: str) -> None:
    """Refuse to give a `method` the bytes of a `rival` where one of them knows none by the scan."""
    other = rival.experiment(Path(".")).method
    if "memory" not in FACTS[other].sections:
        raise ConfigError(
            f"its bytes cannot equal those of '{rival.row.name}': {other} encodes no scans; "
            f"name a row of {_with_section('memory')}"
        )
    if "exemplars" not in FACTS[method].sections:
        raise ConfigError(
            f"{method} keeps no exemplars that bytes could be given to: leave out equal-bytes-to, or take "
            f"{_with_section('exemplars')}"
        )


def _with_section(section: str) -> str:
    """The methods that use a section of the configuration."""
    return ", ".join(name for name, facts in FACTS.items() if section in facts.sections)
