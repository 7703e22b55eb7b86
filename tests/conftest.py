"""Tests run in one process a core, so each takes one thread, and on the CPU, where results are the same everywhere.

Must be said before torch is imported.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
