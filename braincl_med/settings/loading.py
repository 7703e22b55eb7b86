"""Reading an experiment: a YAML file, overridden by flat keys.

`flwr run . -c 'sleep-epochs=6'` overrides by flat keys, which are `section-key` (or `key` at the top level). What is
wrong is refused before anything starts, with the key, the value and what is allowed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from braincl_med.foundation.errors import ConfigError
from braincl_med.settings.config import BETWEEN_TASKS, ENCODED, JOINING, NETWORK, ExperimentConfig
from braincl_med.settings.former import modernised
from braincl_med.settings.memory import RECIPES
from braincl_med.settings.methods import FACTS
from braincl_med.settings.reading import find, read_file, read_text
from braincl_med.settings.section import Section, explain, kebab, nearest


@dataclass(frozen=True)
class Change:
    """A setting that is another than it was.

    Attributes:
        place: where it stands: its section, if it is in one, and its key.
        before: the former value; None also where there was none.
        after: the value now.
    """

    place: tuple[str, ...]
    before: Any
    after: Any

    @property
    def between_tasks(self) -> bool:
        """Whether such a change is allowed once a task is learned."""
        return "-".join(self.place) in BETWEEN_TASKS or self.place[0] in BETWEEN_TASKS

    @property
    def network(self) -> bool:
        """Whether the shared network is another by it."""
        return "-".join(self.place) in NETWORK

    @property
    def joining(self) -> bool:
        """Whether hospitals join or leave by it, which they may at any time."""
        return "-".join(self.place) == JOINING

    @property
    def encoded(self) -> bool:
        """Whether memories would be others under such a change."""
        return "-".join(self.place) in ENCODED

    def undoes(self, told: str) -> bool:
        """Whether a former change, in words, was away from what the setting is to be now."""
        return f"{'-'.join(self.place)} was {self.after!r}, is " in told

    def __str__(self) -> str:
        return f"{'-'.join(self.place)} was {self.before!r}, is {self.after!r}"


def packaged_configs() -> Path:
    """The folder of the experiments that travel with the code."""
    beside = Path(__file__).resolve().parents[2] / "configs"
    return beside if beside.is_dir() else Path(__file__).resolve().parents[1] / "app" / "configs"


def flat_keys() -> dict[str, tuple[str, ...]]:
    """Every key that may be overridden, flat: `{"sleep-epochs": ("sleep", "epochs"), "seed": ("seed",), …}`."""
    keys: dict[str, tuple[str, ...]] = {}
    for name, field in ExperimentConfig.model_fields.items():
        kind = field.annotation
        sections = tuple(RECIPES.values()) if name == "memory" else (kind,)
        for section in sections:
            if not (isinstance(section, type) and issubclass(section, Section)):
                keys[kebab(name)] = (kebab(name),)
                continue
            for inner, inner_field in section.model_fields.items():
                key = inner_field.alias or kebab(inner)
                if (name, key) != ("stream", "tasks"):
                    keys[f"{kebab(name)}-{key}"] = (kebab(name), key)
    return keys


def load_experiment(source: str | Path, overrides: Mapping[str, Any] | None = None) -> ExperimentConfig:
    """Read an experiment from a YAML file, a packaged experiment's name, or YAML text, and apply overrides.

    Args:
        source: a path, a name like `demo`, or the text of a YAML (or JSON) mapping.
        overrides: flat kebab-case keys; an empty string means "not overridden".

    Raises:
        ConfigError: naming each offending key, its value and what is allowed.
    """
    settings = _read_mapping(source)
    known = flat_keys()
    written = [*settings, *(key for section in settings.values() if isinstance(section, dict) for key in section)]
    if odd := next((key for key in written if "_" in key), None):
        raise ConfigError(f"unknown key '{odd[:40]}': keys are written with hyphens, as '{kebab(odd)[:40]}'")
    for key, value in (overrides or {}).items():
        if key not in known:
            raise ConfigError(f"unknown key '{key}'; {nearest(key, known)}")
        if value == "":
            continue
        place = settings
        for part in known[key][:-1]:
            place[part] = {} if place.get(part) is None else place[part]
            place = place[part]
            if not isinstance(place, dict):
                raise ConfigError(f"'{part}' is {place!r}, expected a mapping of keys, such as '{known[key][-1]}'")
        place[known[key][-1]] = value
    try:
        return ExperimentConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(explain(error, known)) from None


def differences(former: Mapping[str, Any], config: ExperimentConfig) -> list[Change]:
    """What decides about results and differs from the `former` settings.

    Settings that did not exist then have their defaults.

    Raises:
        ConfigError: the former settings are no longer valid.
    """
    return list(_differences(former_config(former, config.name).as_result_settings(), config.as_result_settings()))


def former_config(former: Mapping[str, Any], name: str) -> ExperimentConfig:
    """The configuration that experiment `name` was begun with, from the settings that were kept of it.

    Raises:
        ConfigError: they are no longer valid.
    """
    try:
        used = FACTS[former["method"]].sections if former.get("method") in FACTS else ()
        return ExperimentConfig.model_validate(modernised(former, used))
    except ValidationError as error:
        raise ConfigError(
            f"'{name}' was begun with settings that are refused now: {explain(error, flat_keys())}"
        ) from None


def _differences(former: dict[str, Any], now: dict[str, Any], place: tuple[str, ...] = ()) -> Iterator[Change]:
    for key in sorted({*former, *now}):
        before, after = former.get(key), now.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, (*place, key))
        elif before != after:
            yield Change((*place, key), before, after)


def _read_mapping(source: str | Path) -> dict[str, Any]:
    text = str(source)
    if isinstance(source, str) and ("\n" in text or text.lstrip().startswith("{")):
        return read_text(text, "the configuration")
    return read_file(find(text, packaged_configs(), "experiment"))
