from pathlib import Path

import pydicom.data
import pytest

from braincl_med.scans.reading import read_file
from braincl_med.scans.refusals import ScanRefusedError

SHIPPED = Path(pydicom.data.__file__).parent / "test_files"


@pytest.fixture
def shipped():
    """A file that pydicom's own package ships; nothing is fetched."""

    def path(name):
        assert (SHIPPED / name).is_file()
        return SHIPPED / name

    return path


@pytest.fixture
def pixels_of(tmp_path):
    """The pixels of a file with the given bytes, or of its frame."""

    def read(content, frame=None):
        path = tmp_path / "file"
        path.write_bytes(content)
        return read_file(path, frame).pixels

    return read


@pytest.fixture
def refusal_of(tmp_path):
    """Why a file with the given bytes is refused."""

    def read(content, frame=None):
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises(ScanRefusedError) as caught:
            read_file(path, frame)
        return caught.value

    return read
