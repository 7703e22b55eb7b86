"""The run store's examinations: what each hospital told when it examined the network after a task."""

import sqlite3
from collections.abc import Mapping

from braincl_med.evaluation.examination import Examination
from braincl_med.foundation.errors import RecordsError
from braincl_med.records.alive import now
from braincl_med.records.database import Database


class Examinations(Database):
    """Reads and writes them."""

    def record_examination(self, name: str, after_task: int, told: Mapping[str, Examination]) -> None:
        """Keep what hospitals told, by their names, when they examined the network after a task; what others told of
        it before goes.
        """
        with self._connection() as db:
            db.execute("DELETE FROM examination WHERE experiment=? AND after_task=?", (name, after_task))
            db.executemany(
                "INSERT INTO examination VALUES (?,?,?,?,?)",
                [(name, after_task, hospital, now(), one.model_dump_json()) for hospital, one in told.items()],
            )

    def examinations(self, name: str) -> dict[int, dict[str, Examination]]:
        """What hospitals told when they examined the network, by the task it was after and their names.

        Raises:
            RecordsError: another version of this program wrote it.
        """
        with self._connection() as db:
            rows = (
                db.execute(
                    "SELECT after_task, hospital, told FROM examination WHERE experiment=? "
                    "ORDER BY after_task, hospital",
                    (name,),
                ).fetchall()
                if "examination" in later_tables(db)
                else []
            )
        found: dict[int, dict[str, Examination]] = {}
        try:
            for after, hospital, told in rows:
                found.setdefault(after, {})[hospital] = Examination.model_validate_json(told)
        except ValueError as error:
            raise RecordsError(
                f"the examination of '{name}' is damaged, or another version of this program wrote it: "
                f"`braincl evaluate {name}` makes it anew"
            ) from error
        return found


def later_tables(db: sqlite3.Connection) -> tuple[str, ...]:
    """Tables that a store of a former version has not."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    return tuple(table for table, since in (("examination", 3), ("tally", 4)) if version >= since)
