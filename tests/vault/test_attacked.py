"""Sealed vaults under attack and by mistake: what was tried and not covered before."""

import os
import shutil
import time
import traceback
from dataclasses import replace

import psutil
import pytest
from typer.testing import CliRunner

from apps.cli.main import app
from braincl_med.foundation.errors import ConfigError, VaultError
from braincl_med.vault import keys
from braincl_med.vault.keys import Key, Keys, read_key
from braincl_med.vault.vault import Vault

from .test_cuefile import cue_file

SECRET = bytes(range(100, 132))
ONE, TWO = Keys(Key(SECRET), hospital="site-0"), Keys(Key(SECRET), Key(bytes(32)), "site-0")


@pytest.fixture(autouse=True)
def _no_power_cuts(monkeypatch):
    """No test cuts the power, so nothing has to wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def refusal(source):
    with pytest.raises(ConfigError) as refused:
        read_key(source, "vault-key")
    return str(refused.value)


def test_a_command_that_prints_for_ever_is_ended_as_soon_as_it_is_no_key():
    begun = time.monotonic()
    assert "'yes', the command of vault-key, prints more than 4,096 bytes" in refusal("command:yes")
    assert time.monotonic() - begun < 5


def test_a_command_that_hangs_is_ended_with_all_that_it_has_started(monkeypatch, tmp_path):
    monkeypatch.setattr(keys, "SECONDS", 0.3)
    script = tmp_path / "kms"
    script.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/pid\nsleep 60\n")
    script.chmod(0o700)
    assert "printed no key within" in refusal(f"command:{script}")
    child = int((tmp_path / "pid").read_text())
    patience = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < patience
        time.sleep(0.02)


def test_one_that_prints_a_key_and_leaves_something_running_gives_the_key(monkeypatch):
    monkeypatch.setattr(keys, "SECONDS", 5.0)
    assert read_key(f"command:sh -c 'echo {SECRET.hex()}; exec sleep 0 >/dev/null'", "k").secret == SECRET


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "key", 0o600)
    assert "is no file: name the file that holds the key" in refusal(f"file:{tmp_path / 'key'}")


def test_no_traceback_tells_a_key(tmp_path):
    """With locals too, as some loggers print them: a key is shown by nothing that holds it."""
    vault = Vault(tmp_path / "trial", ONE)
    vault.remember(cue_file()[0])
    try:
        Vault(tmp_path / "trial", Keys(Key(bytes(31) + b"x"), hospital="site-0")).recall(0)
    except VaultError as error:
        said = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "this is key" in said
    for form in (SECRET.hex(), repr(SECRET)[2:40], repr(bytes(31) + b"x")):
        assert form not in said


def test_a_folder_of_networks_is_one_hospitals(tmp_path):
    """The second one would take the first one's networks for its own remains, and delete them."""
    apart = tmp_path / "networks"
    mine = Vault(tmp_path / "a" / "trial", replace(TWO, network_dir=apart))
    mine.remember(cue_file()[0])
    other = Vault(tmp_path / "b" / "trial", replace(TWO, hospital="site-1", network_dir=apart))
    with pytest.raises(VaultError, match=r"holds the network of task 0 .* at 'site-0': give each hospital a folder"):
        other.remember(cue_file()[0])
    with pytest.raises(VaultError, match="give each hospital a folder"):
        other.finish()
    assert len(mine.recall(0)) == 8
    mine.remember(cue_file(seed=4)[0])
    assert len(list((apart / "trial").iterdir())) == 1


def test_sealing_that_is_asked_for_again_clears_the_plain_files_that_an_interruption_left(tmp_path):
    vault = Vault(tmp_path / "site-0" / "trial")
    vault.remember(cue_file()[0])
    (plain,) = vault.folder.glob("*.cue")
    kept = shutil.copy(plain, tmp_path / "kept")
    key = tmp_path / "key"
    key.write_bytes(SECRET)
    key.chmod(0o600)
    asked = ["vault", "seal", str(vault.folder), "--vault-key", f"file:{key}"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    shutil.copy(kept, plain)  # as if it had been killed before it deleted this
    done = CliRunner().invoke(app, asked)
    assert "already" in done.output
    assert not plain.exists()


def test_a_name_that_no_envelope_takes_is_refused_in_one_sentence(tmp_path):
    vault = Vault(tmp_path / "trial")
    vault.remember(cue_file()[0])
    with pytest.raises(VaultError, match="the hospital's name has 64 characters, expected 1 to 63"):
        vault.seal(Keys(Key(SECRET), hospital="x" * 64))
    assert vault.recall(0).labels.shape == (8,)


@pytest.mark.parametrize("cut", [1, 28, 200])
@pytest.mark.parametrize("keys", [ONE, TWO], ids=["one key", "two keys"])
def test_a_file_that_was_cut_is_refused_wherever_and_nothing_is_written_over_it(tmp_path, keys, cut):
    vault = Vault(tmp_path / "trial", keys)
    vault.remember(cue_file()[0])
    for path in vault.paths(vault.entry(0)):
        whole = path.read_bytes()
        path.write_bytes(whole[:cut])
        for attempt in (lambda: vault.recall(0), lambda: vault.erase(0, "set/0", [0]), lambda: vault.seal(ONE)):
            with pytest.raises(VaultError, match=rf"^'{path.name}'"):
                attempt()
        assert path.read_bytes() == whole[:cut]
        path.write_bytes(whole)
    assert len(vault.recall(0)) == 8
