import numpy as np
import pytest

from braincl_med.foundation.errors import VaultError
from braincl_med.vault.cuefile import CueFile
from braincl_med.vault.erasures import LOG
from braincl_med.vault.folders import MANIFEST
from braincl_med.vault.vault import Vault
from braincl_med.vault.verify import check
from tests.vault.test_cuefile import cue_file


@pytest.fixture
def vault(tmp_path):
    """Two tasks, one record of the first erased."""
    vault = Vault(tmp_path / "trial")
    vault.remember(cue_file()[0])
    vault.remember(cue_file(task=1, seed=1)[0])
    vault.erase(0, "set/0", [0])
    return vault


def file_of(vault, task=0):
    return vault.folder / vault.entry(task).name


def test_a_sound_vault_and_one_that_nothing_was_committed_to_pass_undecoded(vault, tmp_path, monkeypatch):
    monkeypatch.setattr(CueFile, "from_bytes", None)
    check(vault)
    check(Vault(tmp_path / "missing"))
    (tmp_path / "empty").mkdir()
    check(Vault(tmp_path / "empty"))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def replaced_by_another(path):
    path.write_bytes(cue_file(seed=5)[0].to_bytes())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "cannot be read: no such file or directory; restore it from a backup"),
        (cut, "was changed or damaged"),
        (replaced_by_another, "was changed or damaged: its SHA-256 is not the committed one; restore it"),
    ],
)
def test_a_committed_file_that_is_not_what_was_committed_is_named(vault, tmp_path, damage, reason):
    path = file_of(vault)
    damage(path)
    with pytest.raises(VaultError, match=f"^'{path.name}' {reason}") as refused:
        check(vault)
    assert str(tmp_path) not in str(refused.value)


def test_a_lost_manifest_and_a_changed_log_are_named(vault):
    log = vault.folder / LOG
    held = log.read_bytes()
    log.write_bytes(b"")
    # Of one erasure the manifest still has the line, which the next writer writes again.
    check(vault)
    log.write_bytes(held.replace(b"set/0", b"set/1"))
    with pytest.raises(VaultError):
        check(vault)
    (vault.folder / MANIFEST).unlink()
    with pytest.raises(VaultError, match=f"'{MANIFEST}' is missing"):
        check(vault)


def test_a_writer_meanwhile_is_no_damage(vault, monkeypatch):
    read = Vault.manifest
    reads = []

    def read_and_write(self):
        manifest = read(self)
        reads.append(manifest)
        if len(reads) == 1:
            Vault(self.folder).consolidate(1, {0: np.array([0]), 1: np.array([0])})
        return manifest

    monkeypatch.setattr(Vault, "manifest", read_and_write)
    check(vault)
    assert vault.entry(1).memory == "long-term"
