"""What a vault holds, as JSON and as a table."""

from collections.abc import Sequence
from typing import Any

from braincl_med.foundation.errors import VaultError
from braincl_med.vault.subset import ordinals_of
from braincl_med.vault.vault import Vault

Row = dict[str, Any]
NUMERIC = ("task", "records", "cues", "tables", "completion", "index")


def listing(vault: Vault) -> list[Row]:
    """One row a committed task of one experiment, as JSON; a file that cannot be read has a `problem`.

    So has a sealed one whose key was not given.
    """
    folder, rows = vault.folder, []
    for entry in vault.manifest().entries:
        row = {
            "vault": folder.parent.name,
            "experiment": folder.name,
            "task": entry.task,
            "memory": entry.memory,
            "file": entry.name,
            "stored": entry.stored,
        }
        try:
            file = vault.load_cues(entry)
        except VaultError as error:
            rows.append({**row, "problem": str(error)})
            continue
        classes = [
            {
                "label": shard.label,
                "dataset-label": shard.dataset_label,
                "records": shard.records,
                "ordinals": list(ordinals_of(shard)),
            }
            for shard in file.header.shards
        ]
        held = {"task-name": file.header.task_name, "classes": classes, "records": file.records}
        rows.append({**row, **held, "bytes": vault.sizes_of(entry, file)})
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows of `listing` as plain text, bytes item by item."""
    if not rows:
        return "no memories"
    columns = ["experiment", "task", "name", "memory", "records", *NUMERIC[2:], "stored", "classes"]
    cells = [columns, *([_cells(row)[column] for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in NUMERIC else cell.ljust(width)
            for column, cell, width in zip(columns, line, widths, strict=True)
        ).rstrip()
        for line in cells
    )


def _cells(row: Row) -> dict[str, str]:
    held = [f"{c['dataset-label']} ({c['records']:,})" for c in row.get("classes", [])]
    return {
        "experiment": f"{row['vault']}/{row['experiment']}",
        "task": str(row["task"]),
        "name": row.get("task-name", ""),
        "memory": row["memory"],
        "records": f"{row['records']:,}" if "records" in row else "",
        **{item: f"{row['bytes'][item]:,}" if "bytes" in row else "" for item in NUMERIC[2:]},
        "stored": row["stored"],
        "classes": row.get("problem") or ", ".join(held),
    }
