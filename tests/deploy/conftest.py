import shutil

import pytest

from apps.deploy.init import initialise


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The folders of a federation of two, not to be changed."""
    folder = tmp_path_factory.mktemp("deploy") / "federation"
    initialise(folder, "server.example.org", 2)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy of them."""
    return shutil.copytree(written, tmp_path / "federation")
