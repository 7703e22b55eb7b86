"""A hospital's keys: where they come from, and how they are called without being told.

    file:/etc/braincl/vault.key     a file of this user alone (mode 0600 or less)
    env:NAME                        an environment variable
    credential:NAME                 a credential that systemd hands to a service ($CREDENTIALS_DIRECTORY)
    command:age -d -i ID KEY.age    what a command prints: a KMS, a password store, `age`

A key is 32 random bytes: as they are (not in a variable), as 64 hexadecimal digits, or as base64. Its value stands in
no log, error, message or file; it is called by its `id`.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import re
import selectors
import shlex
import signal
import stat
import subprocess
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

from braincl_med.foundation.errors import ConfigError

LENGTH = 32
LARGEST = 4096
"""Bytes that are read of whatever shall hold a key."""
SECONDS = 30.0
"""How long a command may take to print one."""
CALLED = b"BrainCL-Med key id"
FORMS = f"{LENGTH} bytes as they are, {2 * LENGTH} hexadecimal digits, or base64 of {LENGTH} bytes"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")


@dataclass(frozen=True)
class Key:
    """32 bytes that nobody else may know.

    Attributes:
        secret: the bytes; never shown.
    """

    secret: bytes = field(repr=False)

    @cached_property
    def id(self) -> str:
        """How the key is called: 8 hexadecimal digits that tell nothing of it."""
        return hmac.new(self.secret, CALLED, hashlib.sha256).hexdigest()[:8]


@dataclass(frozen=True)
class Keys:
    """With what a vault is sealed and opened; nothing at all for a plain one.

    Attributes:
        vault: seals cue files.
        network: seals their completion networks, apart from the cues; None leaves them in the cue files.
        hospital: whose vault it is; empty when that is taken from the vault itself.
        network_dir: where completion networks lie, in a folder an experiment; None means beside the cues.
        plain_too: plain files are read although there is a key: for those who only look, and for sealing.
    """

    vault: Key | None = None
    network: Key | None = None
    hospital: str = ""
    network_dir: Path | None = None
    plain_too: bool = False

    @classmethod
    def read(
        cls,
        vault: str,
        network: str,
        *,
        hospital: str = "",
        network_dir: Path | None = None,
        plain_too: bool = False,
    ) -> Self:
        """The keys that come from these places; none from an empty one.

        Raises:
            ConfigError: as `read_key`; or there is a network-key alone, or it is the vault-key.
        """
        if network and not vault:
            raise ConfigError("network-key seals what vault-key leaves out: give vault-key too")
        first = read_key(vault, "vault-key") if vault else None
        second = read_key(network, "network-key") if network else None
        if second is not None and second == first:
            raise ConfigError("network-key is the same key as vault-key: make another, or leave it out")
        return cls(first, second, hospital, network_dir, plain_too)


NO_KEYS = Keys()


def read_key(source: str, what: str) -> Key:
    """The key that comes from a place.

    Args:
        source: `file:`, `env:`, `credential:` or `command:` and what the module says of them.
        what: the setting that names it, for the error.

    Raises:
        ConfigError: there is none, others may read it, or it is no key; nothing of what was found is shown.
    """
    kind, _, place = source.partition(":")
    readers = {"file": _of_file, "env": _of_variable, "credential": _of_credential, "command": _of_command}
    # What stands there may be a key by mistake, so it is not shown.
    if kind not in readers or not place:
        raise ConfigError(f"{what} names no place of a key: give file:/…, env:NAME, credential:NAME or command:…")
    return Key(_bytes_of(readers[kind](place, what), what, raw=kind != "env"))


def _bytes_of(content: bytes, what: str, *, raw: bool) -> bytes:
    text = content.strip()
    if len(text) == 2 * LENGTH:
        try:
            return bytes.fromhex(text.decode("ascii"))
        except ValueError:
            pass
    try:
        if len(decoded := base64.b64decode(text.translate(bytes.maketrans(b"-_", b"+/")), validate=True)) == LENGTH:
            return decoded
    except binascii.Error:
        pass
    if raw and len(content) == LENGTH and not re.fullmatch(rb"[0-9A-Fa-f]+", content):
        return content
    raise ConfigError(f"{what} leads to {len(content):,} bytes that are no key: expected {FORMS}")


def _of_file(place: str, what: str) -> bytes:
    path = Path(place)
    if not path.is_absolute():
        raise ConfigError(f"the file of {what} has no absolute path: give file:/… with the whole path")
    try:
        # A pipe would be waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            seen = os.fstat(file.fileno())
            if not stat.S_ISREG(seen.st_mode):
                raise ConfigError(f"'{path.name}' of {what} is no file: name the file that holds the key")
            if seen.st_uid != os.geteuid():
                raise ConfigError(f"'{path.name}' of {what} is another user's: give it to the one that runs this")
            if seen.st_mode & 0o177:
                raise ConfigError(
                    f"'{path.name}' of {what} has mode {stat.S_IMODE(seen.st_mode):04o}, expected 0600: others may "
                    "have read it, so make a new key if they could, and chmod 600"
                )
            return file.read(LARGEST)
    except OSError as error:
        raise _unreadable(path.name, what, error) from None


def _of_variable(place: str, what: str) -> bytes:
    value = os.environ.get(place)
    if not value:
        raise ConfigError(f"the environment variable that {what} names is not set: set it to the key")
    return os.fsencode(value)


def _of_credential(place: str, what: str) -> bytes:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ConfigError(f"{what} names a credential, but systemd gave none: see LoadCredential= of its unit")
    if not NAME.fullmatch(place):
        raise ConfigError(f"{what} names no credential: give credential:NAME")
    try:
        with (Path(folder) / place).open("rb") as file:
            return file.read(LARGEST)
    except OSError as error:
        raise _unreadable(place, what, error) from None


def _of_command(place: str, what: str) -> bytes:
    try:
        words = shlex.split(place)
    except ValueError:
        words = []
    if not words:
        raise ConfigError(f"the command of {what} cannot be read: check its quotes")
    name = Path(words[0]).name
    try:
        # What it says on standard error might hold more than it should, and is not taken.
        running = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise _unreadable(name, what, error) from None
    try:
        printed = _printed(running, time.monotonic() + SECONDS)
        status = running.poll()
    finally:
        # Whatever it has started, too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        assert running.stdout is not None
        running.stdout.close()
    if len(printed) > LARGEST:
        raise ConfigError(f"'{name}', the command of {what}, prints more than {LARGEST:,} bytes: {FORMS} are a key")
    if status is None:
        raise ConfigError(f"'{name}', the command of {what}, printed no key within {SECONDS:.0f} s")
    if status:
        raise ConfigError(f"'{name}', the command of {what}, ended with status {status}: run it by hand")
    return printed


def _printed(running: "subprocess.Popen[bytes]", until: float) -> bytes:
    """What a command prints until it ends, but no more than is needed to see that it is no key."""
    assert running.stdout is not None
    printed, stream = b"", running.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while len(printed) <= LARGEST and selector.select(max(0.0, until - time.monotonic())):
            part = os.read(stream, LARGEST + 1)
            if not part:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(max(0.0, until - time.monotonic()))
                break
            printed += part
    return printed


def _unreadable(name: str, what: str, error: OSError) -> ConfigError:
    return ConfigError(f"'{name}' of {what} cannot be read: {os.strerror(error.errno or 0).lower()}")
