"""The run store: one SQLite file below the state root; the server app writes, everybody else reads.

    experiment ─┬─ step         one exchange with the hospitals: seconds, bytes on the wire, who was missing
                ├─ confusion    test scans counted by hospital, true class and predicted class, after each task
                ├─ tally        of these the recognised ones and all, a row a hospital and task
                ├─ score        histograms of confidence scores of known and unknown scans, after each task
                ├─ storage      bytes at rest by hospital and item, after each task
                └─ examination  what each hospital told when it examined the network after a task
    audit           one audit of vaults

All that is derived (accuracies, forgetting, fairness, AUROC) is computed from these by `evaluation`.
Writing the same key again replaces it, so a resumed run repeats a step without leaving two of it.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from braincl_med.evaluation.tally import Tally
from braincl_med.foundation.errors import RecordsError
from braincl_med.foundation.files import is_locked
from braincl_med.foundation.places import server_folder
from braincl_med.foundation.texts import bounded, one_line
from braincl_med.records.alive import SILENT_SECONDS, now, read_sign, seconds_since
from braincl_med.records.examinations import Examinations, later_tables
from braincl_med.records.schema import SILENT, STOPPED, Audit, Experiment, Status, Step
from braincl_med.records.tallies import read_counts, write_counts
from braincl_med.streams.tasks import Registry

LONGEST_MESSAGE = 2000
"""Characters of how a run ended: some hospitals' reasons."""


class RunStore(Examinations):
    """Reads and writes one run store; made as `Database`."""

    # What the server app writes.

    def begin(
        self,
        config: Mapping[str, Any],
        registry: Registry,
        versions: Mapping[str, str],
        data: str,
    ) -> None:
        """Start or continue an experiment: status running, its registry as of now."""
        row = (
            config["name"],
            config["method"],
            config["seed"],
            json.dumps(config),
            registry.model_dump_json(),
            json.dumps(dict(versions)),
            f"{os.cpu_count()} cores",
            data,
            "running",
            "",
            now(),
            now(),
        )
        with self._connection() as db:
            db.execute(
                f"INSERT INTO experiment VALUES ({','.join('?' * len(row))}) ON CONFLICT (name) DO UPDATE SET "
                "config=excluded.config, registry=excluded.registry, versions=excluded.versions, "
                "machine=excluded.machine, data=excluded.data, status=excluded.status, message='', "
                "updated=excluded.updated",
                row,
            )

    def end(self, name: str, status: Status, message: str = "") -> None:
        """Say how the experiment's run ended; `message` is the one sentence a person reads, cut where it is long."""
        with self._connection() as db:
            db.execute(
                "UPDATE experiment SET status=?, message=?, updated=? WHERE name=?",
                (status, one_line(message, LONGEST_MESSAGE), now(), name),
            )

    def change_registry(self, name: str, registry: Registry) -> None:
        """Give an experiment other tasks to learn, and drop what is recorded of tasks beyond these."""
        with self._connection() as db:
            db.execute("UPDATE experiment SET registry=? WHERE name=?", (registry.model_dump_json(), name))
            db.execute("DELETE FROM step WHERE experiment=? AND task>=?", (name, len(registry.tasks)))

    def take_back(self, name: str, task: int, position: int, message: str) -> None:
        """Drop what is recorded of a step and all after it, which are to be done again; ε that was spent stays."""
        with self._connection() as db:
            db.execute(
                "DELETE FROM step WHERE experiment=? AND (task>? OR task=? AND position>=?)",
                (name, task, task, position),
            )
            for table in ("confusion", "score", "storage", *later_tables(db)):
                db.execute(f"DELETE FROM {table} WHERE experiment=? AND after_task>=?", (name, task))
            db.execute(
                "UPDATE experiment SET status='stopped', message=?, updated=? WHERE name=?", (message, now(), name)
            )

    def forget(self, name: str) -> None:
        """Remove all that is recorded of an experiment, before it starts afresh."""
        with self._connection() as db:
            for table in ("step", "confusion", "score", "storage", "privacy", *later_tables(db)):
                db.execute(f"DELETE FROM {table} WHERE experiment=?", (name,))
            db.execute("DELETE FROM experiment WHERE name=?", (name,))

    def record_step(self, name: str, step: Step) -> None:
        """Keep what one exchange cost and who took part."""
        row = (
            name,
            step.task,
            step.position,
            step.phase,
            step.round,
            step.seconds,
            step.bytes_down,
            step.bytes_up,
            step.loss,
            step.examples,
            json.dumps(step.hospitals),
            json.dumps(step.missing),
            now(),
        )
        with self._connection() as db:
            db.execute(f"INSERT OR REPLACE INTO step VALUES ({','.join('?' * len(row))})", row)
            db.execute("UPDATE experiment SET updated=? WHERE name=?", (row[-1], name))

    def record_evaluation(
        self,
        name: str,
        after_task: int,
        hospital: str,
        confusion: npt.NDArray[np.int64],
        scores: Mapping[str, Mapping[str, Sequence[int]]],
        storage: Mapping[str, int],
    ) -> None:
        """Keep one hospital's evaluation after a task.

        Args:
            name: the experiment.
            after_task: the task just learned.
            hospital: who evaluated.
            confusion: (classes, classes) counts, rows true, columns predicted.
            scores: histogram counts by kind of score (a key of `evaluation.rejection.EDGES`) and kind of scans
                (`known-correct`, `known-wrong`, `unknown-near`, `unknown-far`).
            storage: amounts at rest by item: bytes, and `records` for the number of samples.
        """
        key = (name, after_task, hospital)
        with self._connection() as db:
            write_counts(db, key, confusion)
            for table in ("score", "storage"):
                db.execute(f"DELETE FROM {table} WHERE experiment=? AND after_task=? AND hospital=?", key)
            db.executemany(
                "INSERT INTO score VALUES (?,?,?,?,?,?)",
                [
                    (*key, kind, scans, json.dumps([int(n) for n in counts]))
                    for kind, groups in scores.items()
                    for scans, counts in groups.items()
                ],
            )
            db.executemany(
                "INSERT INTO storage VALUES (?,?,?,?,?)",
                [(*key, item, int(n)) for item, n in storage.items()],
            )

    def record_epsilon(self, name: str, after_task: int, epsilon: Mapping[str, float]) -> None:
        """Keep the ε that hospitals had spent in all, by their names, when a task was evaluated."""
        with self._connection() as db:
            db.executemany(
                "INSERT OR REPLACE INTO privacy VALUES (?,?,?,?)",
                [(name, after_task, hospital, spent) for hospital, spent in epsilon.items()],
            )

    def record_audit(self, passed: bool, report: Mapping[str, Any]) -> None:
        """Keep an audit's report, its texts cut: names of files and folders are whoever's."""
        told = json.dumps(bounded(report))
        with self._connection() as db:
            db.execute("INSERT INTO audit (made, passed, report) VALUES (?,?,?)", (now(), passed, told))

    # What everybody reads.

    def experiments(self) -> list[str]:
        """The names of all experiments, latest first."""
        with self._connection() as db:
            return [row[0] for row in db.execute("SELECT name FROM experiment ORDER BY updated DESC, name")]

    def experiment(self, name: str) -> Experiment:
        """One experiment; one that is recorded as running has stopped where nobody holds its lock, or it has given no
        sign of life for long.

        Raises:
            RecordsError: the store has none of that name, and the message lists those it has; or what it holds of it
                is not of this program's version.
        """
        found = self._recorded(name)
        folder = server_folder(self.path.parent, name)
        if found.status != "running":
            return found
        if is_locked(folder):
            sign = read_sign(folder)
            silent = seconds_since(max(found.updated, sign.time) if sign else found.updated)
            return found if silent <= SILENT_SECONDS else replace(found, status="stopped", message=SILENT)
        # It may have ended between the two looks, and then it says so itself.
        found = self._recorded(name)
        return replace(found, status="stopped", message=STOPPED) if found.status == "running" else found

    def _recorded(self, name: str) -> Experiment:
        """One experiment as it was last recorded."""
        with self._connection() as db:
            row = db.execute("SELECT * FROM experiment WHERE name=?", (name,)).fetchone()
        if row is None:
            raise RecordsError(
                f"no experiment '{name}' in the run store; it has: {', '.join(self.experiments()) or 'none'}"
            )
        try:
            return Experiment(
                name=row[0],
                method=row[1],
                seed=row[2],
                config=json.loads(row[3]),
                registry=Registry.model_validate_json(row[4]),
                versions=json.loads(row[5]),
                machine=row[6],
                data=row[7],
                status=row[8],
                message=row[9],
                started=row[10],
                updated=row[11],
            )
        except ValueError as error:
            raise RecordsError(
                f"the record of '{name}' is damaged, or another version of this program wrote it: its settings, "
                "tasks or versions cannot be read; open it with the version that did, or run the experiment afresh"
            ) from error

    def steps(self, name: str) -> list[Step]:
        """All exchanges in order."""
        with self._connection() as db:
            rows = db.execute(
                "SELECT task, position, phase, round, seconds, bytes_down, bytes_up, loss, examples, hospitals, "
                "missing FROM step WHERE experiment=? ORDER BY task, position",
                (name,),
            ).fetchall()
        return [
            Step(
                task=row[0],
                position=row[1],
                phase=row[2],
                round=row[3],
                seconds=row[4],
                bytes_down=row[5],
                bytes_up=row[6],
                loss=row[7],
                examples=row[8],
                hospitals=tuple(json.loads(row[9])),
                missing=json.loads(row[10]),
            )
            for row in rows
        ]

    def tally(self, name: str) -> Tally:
        """What hospitals counted after each task, over all classes of the registry."""
        classes = len(self._recorded(name).registry.classes) if name in self.experiments() else 0
        with self._connection() as db:
            return read_counts(db, name, classes)

    def scores(self, name: str, after_task: int) -> dict[str, dict[str, npt.NDArray[np.int64]]]:
        """Histogram counts after a task, summed over hospitals, by kind of score and kind of scans."""
        with self._connection() as db:
            rows = db.execute(
                "SELECT kind, scans, counts FROM score WHERE experiment=? AND after_task=? ORDER BY kind, scans",
                (name, after_task),
            ).fetchall()
        summed: dict[str, dict[str, npt.NDArray[np.int64]]] = {}
        for kind, scans, counts in rows:
            groups = summed.setdefault(kind, {})
            groups[scans] = groups.get(scans, 0) + np.array(json.loads(counts), np.int64)
        return summed

    def storage(self, name: str) -> list[tuple[int, str, str, int]]:
        """Rows of (after task, hospital, item, amount)."""
        with self._connection() as db:
            return list(
                db.execute(
                    "SELECT after_task, hospital, item, amount FROM storage WHERE experiment=? "
                    "ORDER BY after_task, hospital, item",
                    (name,),
                )
            )

    def epsilon(self, name: str) -> float | None:
        """The most that a hospital had spent in all when it was last asked; None where none runs under privacy."""
        return max((spent for _, _, spent in self.epsilons(name)), default=None)

    def epsilons(self, name: str) -> list[tuple[int, str, float]]:
        """Rows of (after task, hospital, the ε that it had spent in all); none where nobody runs under privacy."""
        with self._connection() as db:
            if db.execute("PRAGMA user_version").fetchone()[0] < 2:
                return []
            return list(
                db.execute(
                    "SELECT after_task, hospital, epsilon FROM privacy WHERE experiment=? "
                    "ORDER BY after_task, hospital",
                    (name,),
                )
            )

    def last_audit(self) -> Audit | None:
        """The latest audit, or None when there was none."""
        with self._connection() as db:
            row = db.execute("SELECT made, passed, report FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        return None if row is None else Audit(row[0], bool(row[1]), json.loads(row[2]))

    def audits(self) -> list[tuple[str, bool]]:
        """When audits were made and whether every check of theirs passed, the latest first."""
        with self._connection() as db:
            rows = db.execute("SELECT made, passed FROM audit ORDER BY number DESC").fetchall()
        return [(made, bool(passed)) for made, passed in rows]
