"""One federation a module, and what each drill took."""

import os
import time
from unittest import mock

import pytest

from tests.deploy.drills.federation import HOSPITALS, Federation, bounded


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    federation = Federation(tmp_path_factory.mktemp("drills") / "federation")
    try:
        with mock.patch("apps.deploy.up.command_of", bounded):
            federation.start("server", *HOSPITALS)
            yield federation
    finally:
        federation.close()


@pytest.fixture(autouse=True)
def told(request):
    began = time.monotonic()
    yield
    print(f"\n{request.node.name}: {time.monotonic() - began:.0f} s", flush=True)
