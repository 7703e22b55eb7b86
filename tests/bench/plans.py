"""A small benchmark, as a file, and how its tables are read."""

from tests.federation.experiments import TINY

ROWS = """
set: {federation-hospitals: 1, stream-task-count: 2, stream-test-per-class: 5, sleep-rounds: 1, sleep-epochs: 1}
rows:
  - {name: Finetune, set: {method: finetune}}
  - {name: "Replay, equal bytes", set: {method: replay}, equal-bytes-to: BrainCL}
  - {name: BrainCL}
"""


def written(tmp_path, rows=ROWS):
    (tmp_path / "tiny.yaml").write_text(TINY.replace("network: small, ", ""))
    path = tmp_path / "bench.yaml"
    head = f"name: small\nexperiment: {tmp_path / 'tiny.yaml'}\nseeds: [1]\nstreams: {{phantom: {{}}}}\n"
    path.write_text(head + rows)
    return path


def table_of(page, heading):
    """The cells of the table that begins with `heading`, by row name and column."""
    lines = page[page.index(f"| {heading} |") :].split("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}
