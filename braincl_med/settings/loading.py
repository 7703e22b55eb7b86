"""Reading an experiment: a YAML file, overridden by flat keys.

`flwr run . -c 'sleep-epochs=6'` overrides by flat keys, which are `section-key` (or `key` at the top level). What is
wrong is refused before anything starts, with the key, the value and what is allowed.
"""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from braincl_med.foundation.errors import ConfigError
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.former import modernised
from braincl_med.settings.memory import RECIPES
from braincl_med.settings.methods import FACTS
from braincl_med.settings.section import Section, kebab


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
    for key, value in (overrides or {}).items():
        if key not in known:
            raise ConfigError(f"unknown key '{key}'; {_nearest(key, known)}")
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
        raise ConfigError(_explain(error)) from None


def changed_settings(former: Mapping[str, Any], config: ExperimentConfig) -> list[str]:
    """What decides about results and differs from the `former` settings, each as `key was …, is …`.

    Settings that did not exist then have their defaults.

    Raises:
        ConfigError: the former settings are no longer valid.
    """
    try:
        used = FACTS[former["method"]].sections if former.get("method") in FACTS else ()
        begun = ExperimentConfig.model_validate(modernised(former, used)).as_result_settings()
    except ValidationError as error:
        raise ConfigError(
            f"'{config.name}' was begun with settings that are refused now: {_explain(error)}"
        ) from None
    return list(_differences(begun, config.as_result_settings()))


def _differences(former: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted({*former, *now}):
        before, after = former.get(key), now.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{key}-")
        elif before != after:
            yield f"{prefix}{key} was {before!r}, is {after!r}"


def _read_mapping(source: str | Path) -> dict[str, Any]:
    text = str(source)
    label = "the configuration"
    if "\n" not in text and not text.lstrip().startswith("{"):
        path = Path(text).expanduser()
        if not path.is_file():
            path = packaged_configs() / f"{text}.yaml"
        if not path.is_file():
            names = ", ".join(sorted(p.stem for p in packaged_configs().glob("*.yaml")))
            raise ConfigError(f"no experiment '{text}': give a YAML file or one of: {names}")
        label, text = f"'{path.name}'", path.read_text(encoding="utf-8")
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{label} is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{label} holds {type(settings).__name__}, expected a mapping of sections")
    return settings


def _nearest(key: str, known: Iterable[str]) -> str:
    """What may have been meant, or where all keys stand."""
    near = get_close_matches(key, list(known), n=3)
    return f"did you mean {', '.join(near)}?" if near else "docs/running.md says where all keys stand"


def _explain(error: ValidationError) -> str:
    """One sentence a problem: the key as a person writes it, what stands there, what is allowed."""
    known = flat_keys()
    reasons = []
    for problem in error.errors():
        place = [str(part) for part in problem["loc"]]
        if place[:1] == ["memory"]:  # of a union of recipes pydantic names the recipe too
            del place[1:2]
        key = "-".join(place)
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key; {_nearest(key, known)}"
        if not key:
            reasons.append(message)
        else:
            seen = repr(problem["input"])
            reasons.append(f"'{key}' is {seen[:80]}: {message[0].lower()}{message[1:]}")
    return "; ".join(reasons)
