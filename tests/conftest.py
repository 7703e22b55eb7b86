"""Tests run in one process a core, so each takes one thread, and on the CPU, where results are the same everywhere.

Must be said before torch is imported.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

from hypothesis import settings

# On a machine with too much to do an example may take any time; what takes too long ends by pytest's own limit.
settings.register_profile("patient", deadline=None, max_examples=25)
settings.load_profile("patient")


def pytest_collection_modifyitems(items):
    """The real Flower run first: it waits a lot, while other tests can have the cores."""
    items.sort(key=lambda item: item.get_closest_marker("flower") is None)


def pytest_xdist_auto_num_workers(config):
    """Twice as many as cores: half of the time a test waits for Flower, a lock, a child or a disk."""
    return 2 * (os.cpu_count() or 1)
