"""A hospital's identity: the key with which it signs, and the public keys of the others, pinned beforehand.

Both are OpenSSH's: a private key file, Ed25519 made at first use or one that exists (the EC key by which a SuperNode
proves itself to the SuperLink, for example), and a text of public keys, a line a hospital, its name as the comment:

    ssh-ed25519 AAAAC3Nza… hospital-0
    ecdsa-sha2-nistp384 AAAAE2Vj… hospital-1
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from braincl_med.foundation.errors import ConfigError
from braincl_med.foundation.files import make_private, reading_error, write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LARGEST = 1 << 18
"""Bytes that are read of a file of keys."""


@dataclass(frozen=True)
class Identity:
    """A hospital's own.

    Attributes:
        key: signs; never shown.
    """

    key: "Ed25519PrivateKey | EllipticCurvePrivateKey"

    def __repr__(self) -> str:
        return f"Identity({self.public[:40]}…)"

    @property
    def public(self) -> str:
        """Its public key as OpenSSH writes it: kind and base64."""
        from cryptography.hazmat.primitives import serialization as form

        public = self.key.public_key()
        return public.public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()

    def sign(self, message: bytes) -> bytes:
        """A signature of a message; with an EC key over its SHA-384."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(message, ec.ECDSA(hashes.SHA384()))
        return self.key.sign(message)


def signed(message: bytes, signature: bytes, public: str) -> bool:
    """Whether the holder of a public key, as OpenSSH writes it, signed a message."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = _public(public)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(hashes.SHA384()))
        else:
            key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def own_identity(path: Path, name: str) -> Identity:
    """The identity whose private key lies at `path`; made there, for its owner alone, where there is none.

    Args:
        path: of the private key; what is made has its public key, as others pin it, in a file `.pub` beside it.
        name: of the hospital.

    Raises:
        ConfigError: the file holds no such key, has a password, or others may read it.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    try:
        if not path.exists():
            made = ed25519.Ed25519PrivateKey.generate()
            content = made.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
            make_private(path.parent)
            write_whole(path, content)
            write_whole(path.with_suffix(".pub"), f"{Identity(made).public} {name}\n".encode())
            return Identity(made)
        if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            raise ConfigError(f"others may read the identity key '{path.name}': `chmod 600` it, or make a new one")
        content = path.read_bytes()[:LARGEST]
    except OSError as error:
        raise reading_error(path, error) from error
    try:
        ssh = content.startswith(b"-----BEGIN OPENSSH")
        key: Any = form.load_ssh_private_key(content, None) if ssh else form.load_pem_private_key(content, None)
    except Exception:  # the library raises many kinds for what is no key, one for a password
        key = None
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise ConfigError(
            f"'{path.name}' holds no private key of Ed25519 or an elliptic curve without a password: "
            "`ssh-keygen -t ed25519 -N ''` makes one"
        )
    return Identity(key)


def pinned(path: Path) -> dict[str, str]:
    """The public keys by hospital that a file pins; lines that are empty or begin with # say nothing.

    Raises:
        ConfigError: it is missing or no such file, or names a hospital, or a key, twice.
    """
    try:
        text = path.read_bytes()[:LARGEST].decode()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(
            f"masking-identities '{path.name}' cannot be read: give a text file of public keys, one a line"
        ) from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split(maxsplit=2)
        public = " ".join(parts[:2])
        if len(parts) < 3 or parts[2].strip() in found or public in found.values():
            raise ConfigError(
                f"line {number} of '{path.name}' is no public key with a hospital's name behind it, or names a "
                "hospital or a key again: write `ssh-ed25519 AAAA… NAME`"
            )
        _public(public)
        found[parts[2].strip()] = public
    return found


def _public(text: str) -> Any:
    """A public key of a kind that signs.

    Raises:
        ConfigError: it is none.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    try:
        key = form.load_ssh_public_key(text.encode())
    except Exception:  # the library raises many kinds for what is no key
        key = None
    if not isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey):
        raise ConfigError(f"{text[:40]!r} is no public key of Ed25519 or an elliptic curve")
    return key
