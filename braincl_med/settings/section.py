"""What every section of the configuration has in common: how its keys are written, read and refused."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

MOST_NAMED = 5
"""Problems that one sentence spells out; more are counted."""


SECRETS = ("vault-key", "network-key")
"""Keys that name the place of a secret; by mistake the secret itself may stand there."""


def kebab(name: str) -> str:
    """A field's name as it is written in a file: `learning_rate` is `learning-rate`."""
    return name.replace("_", "-")


def _split_names(value: Any) -> Any:
    """Flower's overrides refuse lists, so a list of names may also be one comma-separated string."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split_names)]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Section(BaseModel):
    """Base of all sections: kebab-case keys, nothing unknown, nothing infinite, nothing changed afterwards.

    Numbers may be written as texts, as overrides are; a truth is no number, and only `true` and `false` are truths.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=kebab,
        populate_by_name=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _read_as_written(cls, value: Any, info: ValidationInfo) -> Any:
        return _as_written(value, cls.model_fields[info.field_name or ""].annotation)


def _as_written(value: Any, annotation: Any) -> Any:
    """The value for a field of this kind, where pydantic would take a truth for a number or a number for a truth."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    if bool in kinds:
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise ValueError("expected true or false")
    elif isinstance(value, bool) and (int in kinds or float in kinds):
        raise ValueError("expected a number")
    for kind in kinds:
        if get_origin(kind) is tuple and isinstance(value, list | tuple):
            return [_as_written(item, get_args(kind)[0]) for item in value]
        if get_origin(kind) is Literal and isinstance(value, str):
            return {str(choice): choice for choice in get_args(kind)}.get(value, value)
    return value


def nearest(key: str, known: Iterable[str]) -> str:
    """What may have been meant by `key`, or where all keys stand."""
    near = get_close_matches(key, list(known), n=3)
    return f"did you mean {', '.join(near)}?" if near else "docs/running.md says where all keys stand"


def explain(error: ValidationError, known: Collection[str]) -> str:
    """One sentence a problem: the key as a person writes it, what stands there, what is allowed.

    Args:
        known: the flat keys that there are.
    """
    problems = error.errors(include_url=False)
    reasons = []
    for problem in problems[:MOST_NAMED]:
        place = [str(part) for part in problem["loc"]]
        if place[:1] == ["memory"]:  # of a union of recipes pydantic names the recipe too
            del place[1:2]
        key = "-".join(place)
        message = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else problem["msg"]
        if problem["type"] == "extra_forbidden":
            message = (
                f"unknown key; {nearest(key, known)}"
                if key not in known
                else "the memory's recipe has no such key: leave it out, or choose the other memory-recipe"
            )
        if problem["type"] == "union_tag_invalid":
            message = f"expected as {key}-recipe one of {problem['ctx']['expected_tags']}"
        if not key:
            reasons.append(message)
        elif problem["type"] == "missing":
            reasons.append(f"'{key}' is missing")
        else:
            seen = repr(problem["input"]) if key not in SECRETS else "not shown here"
            reasons.append(f"'{key}' is {seen[:80]}: {message[0].lower()}{message[1:]}")
    more = len(problems) - MOST_NAMED
    return "; ".join(reasons) + (f"; and {more} more" if more > 0 else "")
