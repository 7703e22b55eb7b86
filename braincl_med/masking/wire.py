"""What server and hospitals say to each other about masks, beside an order and a report: strict, small, JSON.

keys     a session begins: every hospital makes a key for it and signs that
upload   the order itself, answered by masked numbers and sealed shares of the masks
unmask   who answered and who did not; survivors tell the shares that take the masks off
"""

import base64
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from braincl_med.foundation.errors import FederationError
from braincl_med.settings.federation import MOST_MASKED

T = TypeVar("T")

Id = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
Hex32 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=63)]
Names = Annotated[tuple[Name, ...], Field(max_length=MOST_MASKED)]
Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]+=*$", max_length=1 << 14)]
Boxes = Annotated[dict[Name, Base64], Field(max_length=MOST_MASKED)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def text(self) -> str:
        """As JSON."""
        return self.model_dump_json()


class Member(_Strict):
    """A hospital's key of one session.

    Attributes:
        hospital: its name.
        public: of X25519.
        signature: by its identity, of `signed_text`.
    """

    hospital: Name
    public: Hex32
    signature: Annotated[str, StringConstraints(pattern="^[0-9a-f]{2,300}$")]


Members = Annotated[tuple[Member, ...], Field(max_length=MOST_MASKED)]


class AskKeys(_Strict):
    """Make a key for a session."""

    step: Literal["keys"] = "keys"
    session: Id


class AskUpload(_Strict):
    """Carry out the order, and answer masked for a sum over `members`; `sum` is said once and never again."""

    step: Literal["upload"] = "upload"
    session: Id
    sum: Id
    members: Members


class AskUnmask(_Strict):
    """Tell shares: of the own mask of who is `alive`, and of the masks between these and the `dropped`."""

    step: Literal["unmask"] = "unmask"
    session: Id
    sum: Id
    alive: Names
    dropped: Names


class Letter(_Strict):
    """The boxes that the alive sealed for one hospital, by sender."""

    boxes: Boxes


class ToldUpload(_Strict):
    """Beside masked numbers: boxes by receiver, and digests of the secrets of which they hold shares."""

    boxes: Boxes
    digests: Annotated[tuple[Hex32, ...], Field(max_length=MOST_MASKED)]


class ToldShares(_Strict):
    """Shares by the hospital whose masks they are of: its own mask's, then those with each dropped one, in order."""

    shares: Boxes


Asked = AskKeys | AskUpload | AskUnmask
_ASKED: TypeAdapter[Asked] = TypeAdapter(Annotated[Asked, Field(discriminator="step")])


def asked(text: str) -> Asked:
    """What a server asks.

    Raises:
        FederationError: it is no such text.
    """
    return _parsed(_ASKED, text)


def told(kind: type[T], text: str) -> T:
    """What a hospital, or a letter, tells; errors as `asked`."""
    return _parsed(TypeAdapter(kind), text)


def _parsed(kind: TypeAdapter[T], text: str) -> T:
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part)[:40] for part in first["loc"][:3]) or "its text"
        raise FederationError(f"what it says of masks cannot be used: {where}: {first['type']}") from None


def packed(content: bytes) -> str:
    """Bytes as they stand in such a text."""
    return base64.b64encode(content).decode()


def unpacked(text: str) -> bytes:
    """The inverse of `packed`.

    Raises:
        FederationError: it is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise FederationError("what it says of masks cannot be used: it holds no base64") from None
