"""A hospital's ledger stops it, survives kills and edits, and answers the same order by the same numbers."""

import json
import stat

import pytest
import torch

from braincl_med.dp.gaussian import multiplier_for
from braincl_med.dp.ledger import FOLDER, NAME, Entry, Ledger, cost
from braincl_med.foundation.errors import PrivacyError, VaultError

DELTA = 1e-5
HALF, WHOLE = multiplier_for(1, DELTA), multiplier_for(2, DELTA)


def entry(order="a", classes=("blood/0",), **more):
    given = {"experiment": "e", "task": 0, "phase": "release", "round": 0, "scans": "training", "unit": "scan"}
    return Entry(order=order, classes=classes, **{**given, "multiplier": WHOLE, **more})


def test_a_release_beyond_the_budget_is_refused_and_not_entered(tmp_path):
    ledger = Ledger(tmp_path, 2, DELTA)
    ledger.enter(entry())
    with pytest.raises(PrivacyError, match=r"from 2\.00 to 2\.9\d, this hospital allows 2 \(privacy-epsilon\)"):
        ledger.enter(entry("b"))
    assert len(ledger.entries()) == 1
    assert ledger.epsilon() == pytest.approx(2, rel=1e-6)
    Ledger(tmp_path, 4, DELTA).enter(entry("b"))


def test_classes_compose_in_parallel_and_patients_do_not(tmp_path):
    ledger = Ledger(tmp_path, 2, DELTA)
    ledger.enter(entry(classes=("blood/0", "blood/1")))
    ledger.enter(entry("b", classes=("blood/2",)))
    assert ledger.epsilon() == pytest.approx(2, rel=1e-6)
    with pytest.raises(PrivacyError):
        ledger.enter(entry("c", classes=("breast/0",), unit="patient"))
    assert cost([entry(), entry("c", classes=("breast/0",), unit="patient")], DELTA) > 2.8


def test_test_scans_have_an_account_of_their_own(tmp_path):
    ledger = Ledger(tmp_path, 2, DELTA)
    ledger.enter(entry())
    ledger.enter(entry("b", scans="test"))
    assert ledger.epsilon() == pytest.approx(2, rel=1e-6)


def test_the_same_order_has_the_same_answer_in_the_next_process_too(tmp_path):
    ledger, answer = Ledger(tmp_path, 2, DELTA), {"sums": torch.arange(3.0)}
    assert ledger.answered("a", "e") is None
    ledger.enter(entry())
    assert ledger.answered("a", "e") is None, "interrupted: it counts, and there is nothing to answer with"
    ledger.keep("a", "e", answer)
    again = Ledger(tmp_path, 2, DELTA).answered("a", "e")
    assert torch.equal(again["sums"], answer["sums"])
    assert ledger.answered("b", "e") is None
    assert ledger.answered("a", "f") is None


def test_a_changed_or_unreadable_ledger_releases_nothing(tmp_path):
    ledger = Ledger(tmp_path, 2, DELTA)
    ledger.enter(entry())
    path = tmp_path / FOLDER / NAME
    kept = json.loads(path.read_bytes())
    kept["ledger"]["entries"] = []
    for content in (json.dumps(kept).encode(), b"{}", b"", b"\xff", b'{"ledger": 1, "sha256": 2}'):
        path.write_bytes(content)
        with pytest.raises(VaultError, match="bring it back"):
            ledger.enter(entry("b"))
        assert path.read_bytes() == content


def test_it_is_its_owners_alone(tmp_path):
    hospital = tmp_path / "site-0"
    Ledger(hospital, 2, DELTA).enter(entry())
    assert stat.S_IMODE((hospital / FOLDER).stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (hospital / FOLDER).iterdir())


def test_a_ledger_that_was_deleted_or_put_back_to_an_older_one_is_no_new_budget(tmp_path):
    ledger = Ledger(tmp_path, 4, DELTA)
    ledger.enter(entry())
    ledger.keep("a", "e", {"sums": torch.arange(3.0)})
    path = tmp_path / FOLDER / NAME
    older = path.read_bytes()
    ledger.enter(entry("b"))
    ledger.keep("b", "e", {"sums": torch.arange(3.0)})
    for content in (older, None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(VaultError, match="missing or older than the answers beside it"):
            ledger.enter(entry("c"))
