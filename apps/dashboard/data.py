"""What the pages show, read from the run store and held until the store's file changes."""

import argparse
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import streamlit as st

from apps.dashboard import whose
from apps.dashboard.limits import read_limits
from braincl_med.evaluation.diagnosis import Diagnosis
from braincl_med.evaluation.tally import Tally
from braincl_med.evaluation.verdict import Limits
from braincl_med.records.examined import Examined
from braincl_med.records.examined import examined as examined_of
from braincl_med.records.known import known_diagnoses, smallest_group
from braincl_med.records.schema import Audit, Experiment
from braincl_med.records.standing import Standing, standing_of
from braincl_med.records.store import RunStore
from braincl_med.records.summary import Summary, summarise
from braincl_med.settings.config import ExperimentConfig

PATIENCE_SECONDS = 0.5
"""How long a reader waits, several times a page, while another program has the store locked."""
MOST_HELD = 8
"""How many experiments' records are held."""
Scores = dict[str, dict[str, npt.NDArray[np.int64]]]


@dataclass(frozen=True)
class Record:
    """One experiment: its figures and the counts behind them.

    Attributes:
        tally: test scans after each task, by hospital and class.
        scores: after each task, histograms by kind of score and kind of scans.
        storage: rows of (after task, hospital, item, amount).
    """

    experiment: Experiment
    summary: Summary
    tally: Tally
    scores: tuple[Scores, ...]
    storage: tuple[tuple[int, str, str, int], ...]

    @property
    def tasks(self) -> list[str]:
        """The tasks evaluated so far, numbered and named."""
        return [f"{i + 1} · {t.name}" for i, t in enumerate(self.summary.tasks[: self.summary.evaluated])]

    @cached_property
    def diagnoses(self) -> tuple[Diagnosis, ...]:
        """All known diagnoses after the latest task, the weakest first; too small groups are withheld."""
        return known_diagnoses(self.experiment, self.tally)

    @property
    def smallest(self) -> int:
        """Of fewer scans than these nothing is told."""
        return smallest_group(self.experiment)

    @cached_property
    def names(self) -> dict[int, str]:
        """Classes by number, as a clinician reads them."""
        return {row.number: row.name for row in self.summary.classes}

    @property
    def known(self) -> int:
        """How many classes are known after the latest evaluated task."""
        return self.summary.tasks[self.summary.evaluated - 1].classes[-1] + 1 if self.summary.evaluated else 0


def _named(option: str) -> str:
    """What the command line says of an option; empty where it says nothing."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, default="", dest="value")
    return str(parser.parse_known_args(sys.argv[1:])[0].value)


def state_root() -> Path:
    """The state root: `--state`, else the environment's, else the default."""
    return ExperimentConfig(state_root=_named("--state")).state_folder


def limits() -> Limits | None:
    """What the hospital asks of every diagnosis, from the file named by `--limits`; None where none is named.

    Raises:
        ConfigError: the file cannot be read, or says something else.
    """
    named = _named("--limits")
    return read_limits(Path(named)) if named else None


def hospital() -> str:
    """Whose view the pages are, by `--hospital`; empty for the federation's, which names all."""
    return _named("--hospital")


def _store() -> RunStore:
    return RunStore(state_root(), patience=PATIENCE_SECONDS)


def names() -> list[str]:
    """The experiments' names, latest first.

    Raises:
        RecordsError: there is no store, or it cannot be read; so do `record` and `last_audit`.
    """
    return _store().experiments()


def record(name: str) -> Record:
    """One experiment; read once for each of its states."""
    held, now = _held(), stamp(name)
    seen, found = held.pop(name, (None, None))
    if found is None or seen != now:
        found = _read(name)
    held[name] = (now, found)
    while len(held) > MOST_HELD:
        held.pop(next(iter(held)), None)
    return found


def stamp(name: str) -> tuple[int | str, ...]:
    """What tells one state of an experiment from the next.

    Raises:
        RecordsError: as `names`.
    """
    store = _store()
    held = store.path.stat()
    # A run that was killed stops running without a word in the file.
    return held.st_mtime_ns, held.st_size, held.st_ino, store.experiment(name).status


def standing(name: str) -> Standing:
    """How an experiment stands at this moment; not held, for time passes without a word in the file.

    Raises:
        RecordsError: as `names`.
    """
    return standing_of(_store(), name)


def examined(name: str) -> Examined | None:
    """What `braincl evaluate` measured last of an experiment; None where it measured nothing."""
    return examined_of(_store(), name)


def last_audit() -> Audit | None:
    """The latest audit."""
    return _store().last_audit()


def audits() -> list[tuple[str, bool]]:
    """When audits were made and whether they passed, the latest first."""
    return _store().audits()


def epsilons(name: str) -> list[tuple[int, str, float]]:
    """The ε that hospitals had spent in all, by group of diseases and name."""
    told, own = _store().epsilons(name), hospital()
    return whose.epsilons_of(told, own) if own else told


@st.cache_resource(show_spinner=False)
def _held() -> dict[str, tuple[tuple[int | str, ...], Record]]:
    """One record an experiment, that of its latest state; what was longest not asked for goes first."""
    return {}


def _read(name: str) -> Record:
    store = _store()
    tally = store.tally(name)
    summary, storage = summarise(store, name, tally), tuple(store.storage(name))
    if own := hospital():
        tally, summary = whose.tally_of(tally, own), whose.summary_of(summary, own)
        storage = whose.storage_of(storage, own)
    return Record(
        experiment=store.experiment(name),
        summary=summary,
        tally=tally,
        scores=tuple(store.scores(name, task) for task in range(summary.evaluated)),
        storage=storage,
    )
