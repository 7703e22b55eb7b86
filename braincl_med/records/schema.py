"""What the run store holds: its tables, and the rows that are read and written whole."""

from dataclasses import dataclass
from typing import Any, Literal

from braincl_med.streams.tasks import Registry

SCHEMA_VERSION = 4
"""Version 1 had no table `privacy`, version 2 none `examination`, version 3 none `tally`."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS experiment (
  name TEXT PRIMARY KEY, method TEXT NOT NULL, seed INTEGER NOT NULL, config TEXT NOT NULL,
  registry TEXT NOT NULL, versions TEXT NOT NULL, machine TEXT NOT NULL, data TEXT NOT NULL,
  status TEXT NOT NULL, message TEXT NOT NULL, started TEXT NOT NULL, updated TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS step (
  experiment TEXT NOT NULL, task INTEGER NOT NULL, position INTEGER NOT NULL, phase TEXT NOT NULL,
  round INTEGER NOT NULL, seconds REAL NOT NULL, bytes_down INTEGER NOT NULL, bytes_up INTEGER NOT NULL,
  loss REAL, examples INTEGER NOT NULL, hospitals TEXT NOT NULL, missing TEXT NOT NULL, finished TEXT NOT NULL,
  PRIMARY KEY (experiment, task, position));
CREATE TABLE IF NOT EXISTS confusion (
  experiment TEXT NOT NULL, after_task INTEGER NOT NULL, hospital TEXT NOT NULL,
  class INTEGER NOT NULL, predicted INTEGER NOT NULL, scans INTEGER NOT NULL,
  PRIMARY KEY (experiment, after_task, hospital, class, predicted));
CREATE TABLE IF NOT EXISTS tally (
  experiment TEXT NOT NULL, after_task INTEGER NOT NULL, hospital TEXT NOT NULL,
  correct TEXT NOT NULL, scans TEXT NOT NULL, PRIMARY KEY (experiment, after_task, hospital));
CREATE TABLE IF NOT EXISTS score (
  experiment TEXT NOT NULL, after_task INTEGER NOT NULL, hospital TEXT NOT NULL,
  kind TEXT NOT NULL, scans TEXT NOT NULL, counts TEXT NOT NULL,
  PRIMARY KEY (experiment, after_task, hospital, kind, scans));
CREATE TABLE IF NOT EXISTS storage (
  experiment TEXT NOT NULL, after_task INTEGER NOT NULL, hospital TEXT NOT NULL,
  item TEXT NOT NULL, amount INTEGER NOT NULL,
  PRIMARY KEY (experiment, after_task, hospital, item));
CREATE TABLE IF NOT EXISTS privacy (
  experiment TEXT NOT NULL, after_task INTEGER NOT NULL, hospital TEXT NOT NULL, epsilon REAL NOT NULL,
  PRIMARY KEY (experiment, after_task, hospital));
CREATE TABLE IF NOT EXISTS examination (
  experiment TEXT NOT NULL, after_task INTEGER NOT NULL, hospital TEXT NOT NULL, made TEXT NOT NULL,
  told TEXT NOT NULL, PRIMARY KEY (experiment, after_task, hospital));
CREATE TABLE IF NOT EXISTS audit (
  number INTEGER PRIMARY KEY AUTOINCREMENT, made TEXT NOT NULL, passed INTEGER NOT NULL, report TEXT NOT NULL);
"""

TOGETHER = "all hospitals"
"""Under which name an evaluation is recorded of which only the sum over hospitals was told."""
Status = Literal["running", "finished", "failed", "stopped"]
"""How an experiment stands. `running` means `stopped` once nobody writes any more."""
STOPPED = "its run was interrupted or killed: `braincl run` with --resume continues it"
SILENT = (
    "its run holds the experiment's lock and has given no sign of life for minutes: end that process, then "
    "`braincl run` with --resume continues it"
)


@dataclass(frozen=True)
class Experiment:
    """One experiment as the run store knows it; `data` says in words on which scans it ran."""

    name: str
    method: str
    seed: int
    config: dict[str, Any]
    registry: Registry
    versions: dict[str, str]
    machine: str
    data: str
    status: Status
    message: str
    started: str
    updated: str


@dataclass(frozen=True)
class Step:
    """One exchange with the hospitals; `position` counts the steps within the task.

    Attributes:
        seconds: from the sending of the first message to the last answer's aggregation.
        bytes_down, bytes_up: weights and texts to and from all hospitals together.
        loss: the mean training loss, weighted by examples; None where nothing is trained.
    """

    task: int
    position: int
    phase: str
    round: int
    seconds: float
    bytes_down: int
    bytes_up: int
    loss: float | None
    examples: int
    hospitals: tuple[str, ...]
    missing: dict[str, str]


@dataclass(frozen=True)
class Audit:
    """The outcome of one audit: when, whether every check passed, and the whole report."""

    made: str
    passed: bool
    report: dict[str, Any]
