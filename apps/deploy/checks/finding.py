"""One line of `braincl deploy check`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What was looked at and how it is.

    Attributes:
        what: the thing, such as "certificate".
        seen: how it is, if it is well; else what is wrong.
        do: what to do; empty where all is well.
    """

    what: str
    seen: str
    do: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done."""
        return not self.do

    def line(self) -> str:
        """The finding as people read it."""
        return f"ok     {self.what}: {self.seen}" if self.ok else f"wrong  {self.what}: {self.seen}; do: {self.do}"
