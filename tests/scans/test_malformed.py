import os

from tests.scans.malformed import tried

COUNT = int(os.environ.get("BRAINCL_MALFORMED", "1500"))


def test_malformed_files_are_read_or_refused_and_kill_nobody():
    """As many as BRAINCL_MALFORMED says: `python -m tests.scans.malformed` tells more of what came of them."""
    came, printed = tried(0, COUNT)
    assert [one[0] for one in came] == list(range(COUNT))
    assert not [one for one in came if one[2].startswith("died")]
    assert max(one[3] for one in came) < 2
    assert max(one[4] for one in came) < 1 << 20  # KiB
    assert not printed
    assert sum(one[2] == "read" for one in came) > COUNT / 10
