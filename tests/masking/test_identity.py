import os
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from braincl_med.foundation.errors import ConfigError
from braincl_med.masking.identity import own_identity, pinned, signed


def private_file(path, key, kind=form.PrivateFormat.OpenSSH, password=None):
    hidden = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    path.write_bytes(key.private_bytes(form.Encoding.PEM, kind, hidden))
    path.chmod(0o600)
    return path


def test_an_identity_is_made_once_for_its_owner_alone_and_pinned_by_its_public_file(tmp_path):
    path = tmp_path / "folder" / "identity"
    made = own_identity(path, "St. Mary's (north)")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    again = own_identity(path, "another name")
    assert again.public == made.public
    pins = pinned(path.with_suffix(".pub"))
    assert pins == {"St. Mary's (north)": made.public}
    signature = again.sign(b"message")
    assert signed(b"message", signature, made.public)
    assert not signed(b"Message", signature, made.public)
    assert not signed(b"message", bytes(64), made.public)
    assert path.read_text().split("\n")[1] not in repr(made)


@pytest.mark.parametrize("kind", [form.PrivateFormat.OpenSSH, form.PrivateFormat.PKCS8])
def test_the_key_of_a_supernode_is_an_identity(tmp_path, kind):
    identity = own_identity(private_file(tmp_path / "hospital-0", ec.generate_private_key(ec.SECP384R1()), kind), "x")
    assert identity.public.startswith("ecdsa-sha2-nistp384 ")
    assert signed(b"m", identity.sign(b"m"), identity.public)
    assert not signed(b"n", identity.sign(b"m"), identity.public)


@pytest.mark.skipif(not os.access("/usr/bin/ssh-keygen", os.X_OK), reason="no ssh-keygen here")
def test_what_ssh_keygen_makes_is_read(tmp_path):
    command = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-C", "hospital-0", "-f", tmp_path / "key"]
    subprocess.run(command, check=True)
    assert pinned(tmp_path / "key.pub") == {"hospital-0": own_identity(tmp_path / "key", "hospital-0").public}


def test_what_is_no_identity_is_refused(tmp_path):
    key = ec.generate_private_key(ec.SECP384R1())
    wide = private_file(tmp_path / "wide", key)
    wide.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read the identity key 'wide'"):
        own_identity(wide, "x")
    locked = private_file(tmp_path / "locked", key, form.PrivateFormat.PKCS8, b"secret")
    other = private_file(tmp_path / "rsa", rsa.generate_private_key(65537, 2048))
    (tmp_path / "text").write_text("no key")
    (tmp_path / "text").chmod(0o600)
    for path in (locked, other, tmp_path / "text"):
        with pytest.raises(ConfigError, match="holds no private key of Ed25519 or an elliptic curve"):
            own_identity(path, "x")


def test_a_file_of_pins_is_read_strictly(tmp_path):
    one, two = (own_identity(tmp_path / name / "identity", name).public for name in ("a", "b"))
    path = tmp_path / "identities"

    def read(text):
        path.write_text(text)
        return pinned(path)

    assert read(f"# ours\n\n{one} north\n{two} south wing\n") == {"north": one, "south wing": two}
    for text in (f"{one} north\n{two} north\n", f"{one} north\n{one} south\n", f"{one}\n"):
        with pytest.raises(ConfigError, match=r"line \d of 'identities'"):
            read(text)
    with pytest.raises(ConfigError, match="is no public key"):
        read("ssh-ed25519 AAAA north\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        pinned(tmp_path / "missing")
