import pytest

from braincl_med.foundation.errors import FederationError, LockedError, VaultError
from braincl_med.masking.ledger import Open, opened

KEY = bytes(range(32))
ONE, TWO = "1" * 32, "2" * 32


def waiting(sum_id=ONE, step="task 0, sleep round 1"):
    return Open(sum=sum_id, step=step, context="0" * 64, publics={"a": "0" * 64}, threshold=2)


def test_a_sums_id_serves_once_also_in_the_next_process(tmp_path):
    path = tmp_path / "x" / "ledger.json"
    with opened(path) as ledger:
        ledger.begin(ONE, KEY)
        ledger.take(waiting(), ONE)
    assert path.stat().st_mode & 0o777 == 0o600
    with opened(path) as ledger, pytest.raises(FederationError, match="its masks are not used twice"):
        ledger.take(waiting(), ONE)
    with opened(path) as ledger, pytest.raises(FederationError, match="agree anew"):
        ledger.take(waiting(TWO), TWO)
    with opened(path) as ledger:
        ledger.take(waiting(TWO), ONE)
        ledger.begin(TWO, bytes(32))
        assert (ledger.used, ledger.open) == ([], None)
    assert KEY.hex() not in path.read_text(), "the key of a former session is forgotten"


def test_shares_of_a_sum_are_told_once(tmp_path):
    with opened(tmp_path / "x" / "ledger.json") as ledger:
        ledger.begin(ONE, KEY)
        ledger.take(waiting(), ONE)
        for sum_id, session in ((TWO, ONE), (ONE, TWO)):
            with pytest.raises(FederationError, match="no masked numbers of this hospital wait"):
                ledger.close(sum_id, session, ["a", "b"])
        assert ledger.close(ONE, ONE, ["b", "a"]).sum == ONE
        with pytest.raises(FederationError, match="no masked numbers of this hospital wait"):
            ledger.close(ONE, ONE, ["a", "b"])


def test_a_step_is_summed_again_over_the_same_hospitals_alone(tmp_path):
    with opened(tmp_path / "x" / "ledger.json") as ledger:
        ledger.begin(ONE, KEY)
        ledger.take(waiting(), ONE)
        ledger.close(ONE, ONE, ["a", "b", "c"])
        ledger.begin(TWO, KEY)
        ledger.take(waiting(TWO), TWO)
        with pytest.raises(FederationError, match="was summed before over a, b, c"):
            ledger.close(TWO, TWO, ["a", "b"])
        ledger.close(TWO, TWO, ["c", "b", "a"])
        ledger.take(waiting("3" * 32, "task 0, sleep round 2"), TWO)
        ledger.close("3" * 32, TWO, ["a", "b"])


def test_nobody_else_writes_and_damage_is_found(tmp_path):
    path = tmp_path / "x" / "ledger.json"
    with opened(path) as ledger:
        ledger.begin(ONE, KEY)
        with pytest.raises(LockedError), opened(path):
            pass
    content = path.read_text()
    for damaged in (content.replace(ONE, TWO), content[:-9], "{}", ""):
        path.write_text(damaged)
        with pytest.raises(VaultError, match="is damaged"), opened(path):
            pass
    with pytest.raises(VaultError, match="is damaged"), opened(path):
        pass
