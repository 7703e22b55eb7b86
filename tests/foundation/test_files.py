import os
import threading
import time

import pytest

from braincl_med.foundation.errors import LockedError, VaultError
from braincl_med.foundation.files import LOCK_NAME, is_locked, locked, write_whole


@pytest.fixture
def umask():
    former = os.umask(0o027)
    yield
    os.umask(former)


@pytest.mark.parametrize(("shared", "mode"), [(False, 0o600), (True, 0o640)])
def test_what_is_shared_follows_the_umask_and_all_else_is_its_owners_alone(tmp_path, umask, shared, mode):
    path = tmp_path / "report.json"
    write_whole(path, b"first", shared=shared)
    write_whole(path, b"second", shared=shared)
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == mode
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_too_long_is_one_sentence(tmp_path):
    with pytest.raises(VaultError, match="cannot be written: file name too long"):
        write_whole(tmp_path / ("a" * 300), b"")


def test_a_lock_is_held_within_its_block_and_looking_makes_none(tmp_path):
    assert not is_locked(tmp_path / "nowhere")
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path, "it"):
        assert is_locked(tmp_path)
    assert (tmp_path / LOCK_NAME).is_file()
    assert not is_locked(tmp_path)


def test_who_only_looks_keeps_nobody_from_writing(tmp_path):
    with locked(tmp_path, "it"):
        pass
    stop = threading.Event()

    def look():
        while not stop.is_set():
            is_locked(tmp_path)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            with locked(tmp_path, "it"):
                pass
    finally:
        stop.set()
        for looker in lookers:
            looker.join()
    with locked(tmp_path, "it"), pytest.raises(LockedError), locked(tmp_path, "it"):
        pass
