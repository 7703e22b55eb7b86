"""Sealed vaults in a whole run: the same network, nothing plain at rest, and no key anywhere but where it belongs."""

import re
import signal

import pytest

from apps.cli.launcher import run_experiment
from braincl_med.federation.checkpoint import folder_of, load_checkpoint
from braincl_med.federation.local import local_hospitals, run_locally
from braincl_med.foundation.errors import ConfigError
from braincl_med.privacy.audit import audit, passed
from braincl_med.records.store import RunStore
from braincl_med.settings.config import FREE
from braincl_med.vault.cuefile import MAGIC
from braincl_med.vault.envelope import is_sealed
from braincl_med.vault.keys import Keys
from braincl_med.vault.vault import Vault
from tests.children import ended
from tests.federation.experiments import tiny
from tests.federation.test_coordinator import _run_and_be_killed
from tests.federation.test_hospital import order

FEW = {"stream_task_count": 2, "sleep_rounds": 1}
SECRETS = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The state root of a run without keys."""
    state = tmp_path_factory.mktemp("plain")
    run_locally(tiny(state, **FEW))
    return state


@pytest.fixture
def keys(tmp_path):
    """Where the keys of a run come from, as overrides."""
    found = {}
    for name, secret in zip(("vault_key", "network_key"), SECRETS, strict=True):
        path = tmp_path / name
        path.write_bytes(secret)
        path.chmod(0o600)
        found[name] = f"file:{path}"
    return found


def network(state):
    return load_checkpoint(folder_of(state, "tiny")).sha256


def assert_sealed(state, keys):
    """No file is a plain cue file, each hospital's vault passes its audit, and no key lies about."""
    files = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    assert sum(is_sealed(content) for content in files.values()) == 8
    for path, content in files.items():
        assert MAGIC not in content, path
        for secret in SECRETS:
            assert secret not in content, path
            assert secret.hex().encode() not in content, path
    opened = Keys.read(keys["vault_key"], keys["network_key"])
    assert passed(audit([state / "site-0", state / "site-1"], keys=opened))


def test_a_sealed_run_that_was_killed_and_resumed_ends_with_the_network_of_a_plain_one(plain, tmp_path, keys):
    state = tmp_path / "sealed"
    assert ended(_run_and_be_killed, state, 8, "after", {**FEW, **keys}) == -signal.SIGKILL
    run_locally(tiny(state, **FEW, **keys, resume=True))
    assert network(state) == network(plain)
    assert RunStore(state).tally("tiny").correct.tolist() == RunStore(plain).tally("tiny").correct.tolist()
    assert_sealed(state, keys)
    for hospital in local_hospitals(tiny(state, **FEW, **keys)):
        assert {entry.seal.hospital for entry in hospital.vault.manifest().entries} == {hospital.name}
        assert len(hospital.vault.recall(1)) == len(Vault(plain / hospital.name / "tiny").recall(1))


def test_a_key_that_the_vault_was_not_sealed_with_stops_the_hospital(tmp_path, keys):
    config = tiny(tmp_path / "sealed", **FEW, **keys)
    assert local_hospitals(config)[0].answer(order(config, "encode")).examples
    (tmp_path / "network_key").write_bytes(bytes(range(1, 33)))
    said = local_hospitals(config)[0].answer(order(config, "encode")).failure
    assert re.search(r"sealed under key [0-9a-f]{8}, this is key [0-9a-f]{8}: give the former \(network-key\)", said)
    assert str(tmp_path) not in said


def test_what_names_the_keys_is_no_part_of_the_experiment_and_a_key_by_mistake_is_not_shown(tmp_path, keys):
    assert {"vault-key", "network-key"} < set(FREE)
    config = tiny(tmp_path, **keys)
    assert "key" not in str(config.as_result_settings())
    wrong = SECRETS[0].hex()
    for refused in (
        lambda: run_experiment(tiny(tmp_path, vault_key=wrong), cores_per_hospital=1),
        lambda: tiny(tmp_path, vault_key=int(wrong, 16)),
        lambda: local_hospitals(tiny(tmp_path, vault_key=keys["vault_key"], method="replay")),
    ):
        with pytest.raises(ConfigError, match="vault-key") as error:
            refused()
        assert wrong not in str(error.value)
        assert str(int(wrong, 16))[:20] not in str(error.value)
