"""The run store's counts of test scans, read without reading every cell of every matrix.

`confusion` has a row a cell; `tally` has one an evaluation, with the row sums and the diagonal, so that a page over
two hundred tasks reads thousands of rows instead of millions.
"""

import json
import sqlite3
from itertools import groupby
from typing import Any

import numpy as np

from braincl_med.evaluation.tally import Counts, Tally

Key = tuple[str, int, str]
"""Experiment, task after which it was counted, hospital."""


def write_counts(db: sqlite3.Connection, key: Key, confusion: Counts) -> None:
    """Put (classes, classes) counts, rows true and columns predicted, in the place of former ones."""
    for table in ("confusion", "tally"):
        db.execute(f"DELETE FROM {table} WHERE experiment=? AND after_task=? AND hospital=?", key)
    db.executemany(
        "INSERT INTO confusion VALUES (?,?,?,?,?,?)",
        [(*key, int(c), int(p), int(confusion[c, p])) for c, p in np.argwhere(confusion)],
    )
    if confusion.any():  # whoever had no test scans is not among those who evaluated
        _write_tally(db, key, np.diagonal(confusion).tolist(), confusion.sum(1).tolist())


def read_counts(db: sqlite3.Connection, name: str, classes: int) -> Tally:
    """What hospitals counted of an experiment, `classes` of which are known to the registry."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    rows = (
        [
            (after, hospital, json.loads(correct), json.loads(scans))
            for after, hospital, correct, scans in db.execute(
                "SELECT after_task, hospital, correct, scans FROM tally WHERE experiment=?", (name,)
            )
        ]
        if version >= 4
        else [row[1:] for row in _summed(db, name)]
    )
    hospitals = tuple(sorted({row[1] for row in rows}))
    tasks = max((row[0] for row in rows), default=-1) + 1
    cells = db.execute(
        "SELECT hospital, class, predicted, scans FROM confusion WHERE experiment=? AND after_task=?",
        (name, tasks - 1),
    ).fetchall()
    # A class without test scans is known from the registry alone.
    size = max([classes if rows else 0, *(len(row[3]) for row in rows), *(cell[2] + 1 for cell in cells)])
    correct = np.zeros((tasks, len(hospitals), size), np.int64)
    scans, latest = np.zeros_like(correct), np.zeros((len(hospitals), size, size), np.int64)
    place = {hospital: number for number, hospital in enumerate(hospitals)}
    for after, hospital, right, all_of in rows:
        correct[after, place[hospital], : len(right)] = right
        scans[after, place[hospital], : len(all_of)] = all_of
    for hospital, true, predicted, count in cells:
        latest[place[hospital], true, predicted] = count
    return Tally(hospitals, correct, scans, latest)


def add_tallies(db: sqlite3.Connection) -> None:
    """Fill the table `tally` of a store that a former version of this program wrote."""
    for (name,) in db.execute("SELECT name FROM experiment").fetchall():
        for experiment, after, hospital, correct, scans in _summed(db, name):
            _write_tally(db, (experiment, after, hospital), correct, scans)


def _write_tally(db: sqlite3.Connection, key: Key, correct: list[int], scans: list[int]) -> None:
    db.execute("INSERT OR REPLACE INTO tally VALUES (?,?,?,?,?)", (*key, json.dumps(correct), json.dumps(scans)))


def _summed(db: sqlite3.Connection, name: str) -> list[tuple[str, int, str, list[int], list[int]]]:
    """Rows of `tally` as the cells of an experiment's matrices have them."""
    cells: list[tuple[Any, ...]] = db.execute(
        "SELECT after_task, hospital, class, SUM(scans), SUM(scans * (class = predicted)) FROM confusion "
        "WHERE experiment=? GROUP BY after_task, hospital, class ORDER BY after_task, hospital, class",
        (name,),
    ).fetchall()
    rows = []
    for (after, hospital), group in groupby(cells, key=lambda cell: cell[:2]):
        told = {number: (scans, right) for _, _, number, scans, right in group}
        numbers = range(max(told) + 1)
        none = (0, 0)
        scans = [told.get(number, none)[0] for number in numbers]
        rows.append((name, after, hospital, [told.get(number, none)[1] for number in numbers], scans))
    return rows
