"""What every section of the configuration has in common: how its keys are written and read."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def kebab(name: str) -> str:
    """A field's name as it is written in a file: `learning_rate` is `learning-rate`."""
    return name.replace("_", "-")


def _split_names(value: Any) -> Any:
    """Flower's overrides refuse lists, so a list of names may also be one comma-separated string."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split_names)]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Section(BaseModel):
    """Base of all sections: kebab-case keys, nothing unknown, nothing changed afterwards."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=kebab, populate_by_name=True, validate_default=True
    )
