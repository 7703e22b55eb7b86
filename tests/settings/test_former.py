import copy
import json
from pathlib import Path

import pytest

from braincl_med.foundation.errors import ConfigError
from braincl_med.settings.loading import differences, load_experiment

FORMER = json.loads((Path(__file__).resolve().parents[1] / "golden" / "former-settings.json").read_text())
"""Settings as a checkpoint of version 1 keeps them: all 107 keys, those of other methods too."""
NOW = {
    "braincl": {},
    "der": {"method": "der"},
    "paper": {"memory-recipe": "paper"},
    "mygo": {"method": "mygo"},
}


def changed(former, config):
    return [str(change) for change in differences(former, config)]


def now(name, **changes):
    return load_experiment("{name: former}", {**NOW[name], **changes})


@pytest.mark.parametrize("name", NOW)
def test_an_experiment_that_a_former_version_began_goes_on(name):
    assert changed(FORMER[name], now(name)) == []
    assert changed(FORMER[name], now(name, seed=7)) == ["seed was 1, is 7"]


def test_another_default_of_a_rival_does_not_close_an_experiment_of_brain_cl():
    former = copy.deepcopy(FORMER["braincl"])
    former["mesu"] |= {"mean-rate": 5.0, "horizon": 3.0}
    former["exemplars"]["per-class"] = 3
    assert changed(former, now("braincl")) == []
    assert "mesu" not in now("braincl").as_result_settings()
    former["sleep"]["epochs"] = 30
    assert changed(former, now("braincl")) == ["sleep-epochs was 30, is 60"]


def test_a_key_that_became_a_constant_is_refused_where_it_had_another_value():
    former = copy.deepcopy(FORMER["mygo"])
    former["mygo"]["noise"] = 32
    with pytest.raises(ConfigError, match="mygo-noise was 32 and is 64 for good now: go on with the version"):
        changed(former, now("mygo"))


def test_of_the_memorys_former_section_only_what_acted_in_its_recipe_counts():
    former = copy.deepcopy(FORMER["braincl"])
    former["memory"] |= {"lambda": 0.5, "preset": "paper", "epochs": 99}
    assert changed(former, now("braincl")) == []
    former["memory"]["step"] = 0.2
    assert changed(former, now("braincl")) == ["memory-step was 0.2, is 0.4"]


@pytest.mark.parametrize(
    ("recipe", "key", "value"),
    [("default", "memory-lambda", 0.1), ("paper", "memory-components", 8), ("default", "memory-epochs", 3)],
)
def test_a_key_of_the_memory_that_would_have_no_effect_is_refused(recipe, key, value):
    with pytest.raises(ConfigError, match=f"{key}"):
        load_experiment("{}", {"memory-recipe": recipe, key: value})


def test_a_recipe_that_is_none_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match=r"memory.*'default', 'paper'"):
        load_experiment("{}", {"memory-recipe": "best"})


def test_changed_settings_are_refused_with_those_that_may_change():
    assert changed(FORMER["braincl"], now("braincl", **{"federation-quorum": 1, "resume": "true"})) == []
