"""JSON files that carry their own checksum: `{NAME: body, "sha256": of the body's canonical spelling}`."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import canonical_json, reading_error, sha256_of

Body = TypeVar("Body", bound=BaseModel)

# Whatever may come up while a damaged or foreign file is read and its body is validated by pydantic.
UNREADABLE = (ValueError, KeyError, TypeError, RecursionError)


class ChangedError(ValueError):
    """The body is not the one whose checksum lies beside it."""


def with_checksum(name: str, body: Any) -> bytes:
    """The file of `body`, a JSON value, under `name`."""
    return canonical_json({name: body, "sha256": sha256_of(canonical_json(body))})


def body_of(name: str, content: bytes) -> Any:
    """What `with_checksum` was given.

    Raises:
        ChangedError: the checksum does not match.
        ValueError, KeyError, TypeError, RecursionError: it is no such file.
    """
    held = json.loads(content)
    body = held[name]
    if sha256_of(canonical_json(body)) != held["sha256"]:
        raise ChangedError
    return body


def read_checked(path: Path, name: str, kind: type[Body], damaged: str) -> Body | None:
    """The model of `kind` whose dump `with_checksum` wrote to `path`; None where there is no file.

    Raises:
        VaultError: the file cannot be read, or is damaged, which `damaged` says.
    """
    try:
        content = path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise reading_error(path, error) from error
    if content is None:
        return None
    try:
        return kind.model_validate(body_of(name, content))
    except UNREADABLE:
        raise VaultError(damaged) from None
