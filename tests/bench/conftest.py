"""A small benchmark, run once for all tests and whichever worker needs it first."""

import pytest
from filelock import FileLock

from braincl_med.bench.cells import run_cells
from braincl_med.bench.plan import cells_of, load_bench
from tests.bench.plans import written


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id):
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "bench"
    with FileLock(f"{folder}.lock"):
        folder.mkdir(exist_ok=True)
        bench = load_bench(str(written(folder)))
        cells, reported = list(cells_of(bench)), []
        assert run_cells(cells, folder, 2, None, reported.append) == []
    assert [result.cell for result in reported] in ([], cells), "all of them, or none by the workers that come later"
    return folder, bench
