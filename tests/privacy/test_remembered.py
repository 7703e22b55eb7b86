"""What a hospital remembers of its federation passes an audit, and nothing else in its folder does."""

import pytest

from braincl_med.federation.local import run_locally
from braincl_med.federation.masks import IDENTITY, LEDGER
from braincl_med.federation.seen import FOLDER, NAME
from braincl_med.privacy.accounting import suspects
from braincl_med.privacy.audit import audit
from braincl_med.privacy.remembered import remembered
from tests.federation.experiments import tiny


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked")
    run_locally(tiny(folder, federation_masking="on", federation_hospitals=3, stream_task_count=1, sleep_rounds=1))
    return folder


def look(folder):
    return remembered(folder, lambda path: path.name)


def test_a_masked_runs_vault_passes_its_audit(state):
    found = look(state / "site-0" / FOLDER)
    assert (found.own, found.problems, found.unknown) == (5, (), ())
    (vault,) = audit([state / "site-0"])["vaults"]
    assert vault["experiments"] == ["tiny"]
    assert {check["name"]: check["detail"] for check in vault["checks"] if not check["passed"]} == {}


@pytest.mark.parametrize(
    "place", ["scan.npy", "tiny/scan.npy", "tiny/deeper/scan.npy", IDENTITY, f"{IDENTITY}.pub", f"tiny/{LEDGER}",
              f"tiny/{NAME}", "tiny/.lock"],
)  # fmt: skip
def test_a_scan_in_the_place_of_anything_is_named(state, place):
    path = state / "site-1" / FOLDER / place
    former = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(range(256)) * 9)
    try:
        found = look(state / "site-1" / FOLDER)
        assert any(path.name in problem for problem in found.problems)
        assert path in found.unknown
        assert suspects([path], lambda path: path.name)
    finally:
        path.write_bytes(former) if former is not None else path.unlink()


def test_a_link_is_named(state):
    path = state / "site-2" / FOLDER / "tiny" / "elsewhere"
    path.symlink_to(state)
    try:
        assert any("elsewhere" in problem for problem in look(state / "site-2" / FOLDER).problems)
    finally:
        path.unlink()


@pytest.mark.parametrize("place", [IDENTITY, f"{IDENTITY}.pub", f"tiny/{LEDGER}", f"tiny/{NAME}"])
def test_a_scan_behind_what_a_reader_looks_at_is_named(state, place):
    path = state / "site-1" / FOLDER / place
    former = path.read_bytes()
    pixels = bytes(range(256)).hex().encode()
    beside = b'{"scan":"' + pixels + b'",' + former[1:] if place.endswith("json") else former + b"# " + pixels
    path.write_bytes(beside)
    try:
        found = look(state / "site-1" / FOLDER)
        assert any(path.name in problem for problem in found.problems)
    finally:
        path.write_bytes(former)
