"""What two hospitals share and nobody else knows: X25519, HKDF-SHA256, and what follows from it.

    s(u, v) = X25519(private of u, public of v)
    mask seed  = HKDF(s, salt = context, info = "mask" u v),  u < v        stream = ChaCha20(seed)
    box key    = HKDF(s, salt = context, info = "box" from to)             box = ChaCha20-Poly1305(key, shares)

The context is the digest of all that is told to every hospital of one sum, the network itself among it: hospitals
that were sent different networks get masks that do not cancel (Pasquini et al. 2022), and no key is used twice.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from braincl_med.foundation.errors import FederationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

KEY = 32
NONCE = bytes(12)
"""A box's key is used for that box alone."""
CHUNK = 1 << 20
"""Bytes of a stream that are added at once, and stay in a processor's cache."""


def new_private() -> bytes:
    """A private key of X25519."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.generate().private_bytes_raw()


def _private(private: bytes) -> "X25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private)


def public_of(private: bytes) -> bytes:
    """The public key of a private one."""
    return _private(private).public_key().public_bytes_raw()


def shared_secret(private: bytes, public: bytes) -> bytes:
    """What the holders of two keys share.

    Raises:
        FederationError: the public key is none that keeps a secret.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    try:
        return _private(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise FederationError("a hospital's public key for masks is no key: this round was not answered") from None


def derived(secret: bytes, context: bytes, *purpose: str) -> bytes:
    """A key for one purpose in one context."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = b"".join(len(part.encode()).to_bytes(2) + part.encode() for part in ("braincl-med masking 1", *purpose))
    return HKDF(SHA256(), KEY, context, info).derive(secret)


def mask_seed(secret: bytes, context: bytes, one: str, other: str) -> bytes:
    """The seed of the mask between two hospitals, the same from either side."""
    return derived(secret, context, "mask", *sorted((one, other)))


def seal(secret: bytes, context: bytes, sender: str, receiver: str, content: bytes) -> bytes:
    """A box that only `receiver` opens, and only in this context."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    key = derived(secret, context, "box", sender, receiver)
    return ChaCha20Poly1305(key).encrypt(NONCE, content, context)


def unseal(secret: bytes, context: bytes, sender: str, receiver: str, box: bytes) -> bytes:
    """The content of a box.

    Raises:
        FederationError: it was not sealed by `sender` for `receiver` in this context.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    key = derived(secret, context, "box", sender, receiver)
    try:
        return ChaCha20Poly1305(key).decrypt(NONCE, box, context)
    except InvalidTag:
        raise FederationError(f"the shares of {sender} are not what it sealed for this sum: none were told") from None


def add_stream(seed: bytes, vectors: Sequence[npt.NDArray[np.unsignedinteger]], sign: int) -> None:
    """Add ±the stream of a seed to vectors, one after the other, in place, modulo their own 2^bits."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    encryptor = Cipher(algorithms.ChaCha20(seed, bytes(16)), None).encryptor()
    zeros, stream = bytes(CHUNK), bytearray(CHUNK)
    for vector in vectors:
        step, words = CHUNK // vector.itemsize, np.frombuffer(stream, vector.dtype.newbyteorder("<"))
        for start in range(0, len(vector), step):
            part = vector[start : start + step]
            wanted = len(part) * vector.itemsize
            encryptor.update_into(zeros if wanted == CHUNK else zeros[:wanted], stream)
            (np.add if sign > 0 else np.subtract)(part, words[: len(part)], out=part)
