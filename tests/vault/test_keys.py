"""Where keys come from, and that no refusal tells one."""

import base64
import os

import pytest

from braincl_med.foundation.errors import ConfigError
from braincl_med.vault import keys
from braincl_med.vault.keys import Key, Keys, read_key

SECRET = bytes(range(100, 132))
FORMS = {
    "raw": SECRET,
    "hex": SECRET.hex().encode(),
    "hex and newline": SECRET.hex().upper().encode() + b"\n",
    "base64": base64.b64encode(SECRET) + b"\n",
    "urlsafe": base64.urlsafe_b64encode(bytes([251] * 32)),
}


@pytest.fixture
def file(tmp_path):
    """A file of a key that nobody else may read."""
    path = tmp_path / "vault.key"
    path.write_bytes(SECRET.hex().encode())
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_a_key_may_be_raw_hexadecimal_or_base64(file, form):
    file.write_bytes(FORMS[form])
    expected = bytes([251] * 32) if form == "urlsafe" else SECRET
    assert read_key(f"file:{file}", "vault-key") == Key(expected)


@pytest.mark.parametrize("source", ["file", "env", "credential", "command"])
def test_a_key_comes_from_each_kind_of_place(file, monkeypatch, source):
    monkeypatch.setenv("OUR_KEY", SECRET.hex())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    place = {"file": file, "env": "OUR_KEY", "credential": "vault.key", "command": f"cat '{file}'"}[source]
    assert read_key(f"{source}:{place}", "vault-key").secret == SECRET


def refusal(source):
    with pytest.raises(ConfigError) as refused:
        read_key(source, "vault-key")
    said = str(refused.value)
    assert "\n" not in said
    assert "vault-key" in said
    assert SECRET.hex() not in said
    assert SECRET.hex()[:20] not in said
    assert "/tmp" not in said
    return said


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622, 0o700])
def test_a_file_that_others_may_use_is_refused(file, mode):
    file.chmod(mode)
    assert f"has mode {mode:04o}, expected 0600" in refusal(f"file:{file}")


def test_a_file_of_another_user_is_refused(file, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    assert "is another user's" in refusal(f"file:{file}")


@pytest.mark.parametrize("content", [b"", SECRET[:31], SECRET + b"x", SECRET.hex().encode()[:-2], b"g" * 64])
def test_what_is_no_key_is_refused(file, content):
    file.write_bytes(content)
    assert f"leads to {len(content)} bytes that are no key" in refusal(f"file:{file}")


def test_32_hexadecimal_digits_are_half_a_key(file):
    file.write_bytes(SECRET.hex().encode()[:32])
    assert "leads to 32 bytes that are no key" in refusal(f"file:{file}")


def test_places_that_are_none_are_refused(file, monkeypatch, tmp_path):
    monkeypatch.delenv("OUR_KEY", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert "names no place of a key" in refusal(SECRET.hex())
    assert "names no place of a key" in refusal("file:")
    assert "has no absolute path" in refusal("file:vault.key")
    assert "'missing' of vault-key cannot be read: no such file" in refusal(f"file:{tmp_path / 'missing'}")
    assert "cannot be read: is a directory" in refusal(f"file:{tmp_path}")
    assert "is not set" in refusal("env:OUR_KEY")
    assert "systemd gave none" in refusal("credential:vault.key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert "names no credential" in refusal("credential:../vault.key")


def test_a_variable_holds_text_alone(monkeypatch):
    monkeypatch.setenv("OUR_KEY", "a correct horse battery staple!!")
    assert len(os.environ["OUR_KEY"]) == 32
    assert "that are no key" in refusal("env:OUR_KEY")


def test_a_command_runs_without_a_shell_and_not_for_ever(file, monkeypatch, tmp_path, capfd):
    assert "that are no key" in refusal(f"command:echo {SECRET.hex()[:20]} > {tmp_path}/seen")
    assert not (tmp_path / "seen").exists()
    assert "'false', the command of vault-key, ended with status 1" in refusal("command:/bin/false")
    assert "cannot be read: no such file" in refusal("command:/nowhere/kms get")
    assert "check its quotes" in refusal("command:cat 'x")
    refusal(f"command:sh -c 'echo {SECRET.hex()} >&2; exit 3'")
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(keys, "SECONDS", 0.1)
    assert "printed no key within" in refusal("command:sleep 5")


def test_no_representation_shows_a_key():
    held = Keys(Key(SECRET), Key(bytes(32)), "site-0")
    assert str(SECRET) not in repr(held)
    assert SECRET.hex() not in repr(held)
    assert len(Key(SECRET).id) == 8
    assert Key(SECRET).id not in SECRET.hex()


def test_a_network_key_needs_a_vault_key_and_is_another(file, monkeypatch):
    monkeypatch.setenv("OUR_KEY", SECRET.hex())
    with pytest.raises(ConfigError, match="give vault-key too"):
        Keys.read("", f"file:{file}")
    with pytest.raises(ConfigError, match="network-key is the same key as vault-key"):
        Keys.read(f"file:{file}", "env:OUR_KEY")
    assert Keys.read("", "") == Keys()
