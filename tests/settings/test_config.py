import tomllib
from pathlib import Path

import pytest

from braincl_med.foundation.errors import ConfigError
from braincl_med.settings.config import ExperimentConfig
from braincl_med.settings.keys import renewed
from braincl_med.settings.loading import (
    Change,
    differences,
    flat_keys,
    load_experiment,
    packaged_configs,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("sleep-epoch", 6, "unknown key 'sleep-epoch'"),
        ("memory-step", 0, "'memory-step' is 0: input should be greater than 0"),
        ("memory-step", -1.5, "'memory-step' is -1.5"),
        ("federation-hospitals", 0, "'federation-hospitals' is 0"),
        ("stream-name", "medmnist99", "'medmnist40', 'medmnist12'"),
        ("sleep-epochs", "many", "'sleep-epochs' is 'many'"),
        ("selection-per-class", 2000, "above stream-train-per-class 1000"),
        ("federation-quorum", 9, "above federation-hospitals"),
        ("sleep-rounds", 100, "above sleep-epochs"),
        ("stream-sets", "bloodmnist", "belongs to stream-name 'medmnist'"),
        ("name", "No Capitals", "'name' is 'No Capitals'"),
        ("sleep-epochs", True, "'sleep-epochs' is True: expected a number"),
        ("memory-weight-step", False, "'memory-weight-step' is False: expected a number"),
        ("stream-size", True, "'stream-size' is True"),
        ("sleep-learning-rate", "inf", "'sleep-learning-rate' is 'inf': input should be a finite number"),
        ("sleep-learning-rate", float("nan"), "'sleep-learning-rate' is nan: input should be a finite number"),
        ("exemplars-bytes-per-scan", 1e999, "'exemplars-bytes-per-scan' is inf: input should be a finite number"),
        ("sleep-flip", 1, "'sleep-flip' is 1: expected true or false"),
        ("sleep-flip", "yes", "'sleep-flip' is 'yes': expected true or false"),
    ],
)
def test_what_is_wrong_is_refused_naming_key_value_and_what_is_allowed(key, value, reason):
    with pytest.raises(ConfigError) as refused:
        load_experiment("{}", {key: value})
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("method", "key", "value"),
    [
        ("icarl", "sleep-balance", "loss"),
        ("der", "sleep-proximal", 0.01),
        ("mesu", "federation-classifier-rows", "by-class"),
    ],
)
def test_a_setting_that_a_method_would_ignore_is_refused(method, key, value):
    load_experiment("{}", {key: value})
    with pytest.raises(ConfigError, match=f"method {method} .*: leave out .*{key}"):
        load_experiment("{}", {"method": method, key: value})
    load_experiment("{}", {"method": "ewc", key: value})
    section, name = key.split("-", 1)
    with pytest.raises(ConfigError, match="'experiment' was begun with settings that are refused now: method"):
        differences({"method": method, section: {name: value}}, ExperimentConfig())


@pytest.mark.parametrize("method", ["finetune", "ewc", "icarl", "der", "mygo", "mesu"])
def test_a_solved_classifier_needs_samples_of_all_classes(method):
    load_experiment("{method: replay}", {"sleep-classifier": "discriminant"})
    with pytest.raises(ConfigError, match=f"method {method} .*: leave out sleep-classifier"):
        load_experiment("{}", {"method": method, "sleep-classifier": "discriminant"})


def test_a_classifier_is_not_solved_without_sleep():
    with pytest.raises(ConfigError, match="'discriminant' follows sleep"):
        load_experiment("{}", {"sleep-enabled": False, "sleep-classifier": "discriminant"})


def test_an_unknown_key_is_refused_though_it_sets_nothing():
    with pytest.raises(ConfigError, match="unknown key 'slep-epochs'"):
        load_experiment("{}", {"slep-epochs": ""})


def test_unknown_keys_in_a_file_are_refused_in_every_section():
    with pytest.raises(ConfigError, match=r"'sleep-epoch' is 3: unknown key.*'colour' is 'blue'"):
        load_experiment("{sleep: {epoch: 3}, colour: blue}")


@pytest.mark.parametrize("source", ["nowhere", "[1, 2]\n", "{a: [}\n"])
def test_what_is_no_experiment_is_refused(source):
    with pytest.raises(ConfigError):
        load_experiment(source)


@pytest.mark.parametrize("path", sorted(packaged_configs().glob("*.yaml")), ids=lambda p: p.stem)
def test_every_packaged_experiment_is_valid(path):
    assert load_experiment(path).name


def test_overrides_win_and_empty_ones_do_not():
    config = load_experiment("{sleep: {epochs: 12}}", {"sleep-epochs": "", "sleep-rounds": 3, "seed": "7"})
    assert (config.sleep.epochs, config.sleep.rounds, config.seed) == (12, 3, 7)


def test_overrides_may_be_texts():
    texts = {
        "sleep-epochs": "6",
        "memory-step": "0.5",
        "sleep-flip": "False",
        "stream-size": "64",
        "resume": "true",
    }
    config = load_experiment("{}", texts)
    assert (config.sleep.epochs, config.memory.step, config.sleep.flip) == (6, 0.5, False)
    assert config.stream.size == 64


def test_a_sentence_names_few_of_many_problems():
    with pytest.raises(ConfigError, match=r"'k4' is 4: unknown key.*; and 5 more$"):
        load_experiment("".join(f"k{n}: {n}\n" for n in range(10)))


def test_differences_are_values_with_their_place():
    former = ExperimentConfig(seed=2).as_result_settings()
    former["sleep"] |= {"epochs": 6}
    seed, epochs = differences(former, ExperimentConfig())
    assert seed == Change(("seed",), 2, 1)
    assert epochs == Change(("sleep", "epochs"), 6, 60)
    assert list(map(str, differences(former, ExperimentConfig()))) == [
        "seed was 2, is 1",
        "sleep-epochs was 6, is 60",
    ]


def test_the_paper_recipe_is_the_papers_and_keys_beside_it_win():
    paper = load_experiment("{memory: {recipe: paper, preset: paper}}").memory
    assert (paper.down_samplings, paper.lambda_, paper.learning_rate) == (4, 1e-2, 1e-4)
    assert (paper.epochs, paper.quantisation, paper.batch_size) == (100, "noise", 64)
    assert load_experiment("{memory: {recipe: paper, lambda: 0.1}}").memory.lambda_ == 0.1


def test_a_name_list_may_be_one_string():
    assert load_experiment("{}", {"stream-unknown": "retinamnist, dermamnist"}).stream.unknown == (
        "retinamnist",
        "dermamnist",
    )


def test_flower_may_override_exactly_the_keys_that_the_models_have():
    text = (ROOT / "pyproject.toml").read_text()
    assert renewed(text) == text, "`make keys` writes the block anew"
    declared = tomllib.loads(text)["tool"]["flwr"]["app"]["config"]
    assert declared.pop("config") == "quick"
    assert set(declared) == set(flat_keys())
    assert set(declared.values()) == {""}, "defaults belong into config.py alone"


def test_a_whole_configuration_survives_as_text():
    config = load_experiment("demo", {"seed": 5})
    assert load_experiment(config.model_dump_json(by_alias=True)) == config


def test_where_and_how_long_are_no_part_of_the_result():
    first = ExperimentConfig(state_root="/a", resume=True)
    assert first.as_result_settings() == ExperimentConfig(state_root="/b").as_result_settings()
    assert first.as_result_settings() == ExperimentConfig(federation={"quorum": 1}).as_result_settings()
    assert first.as_result_settings() != ExperimentConfig(seed=2).as_result_settings()


def test_keys_are_written_with_hyphens():
    with pytest.raises(ConfigError, match="unknown key 'learning_rate': keys are written with hyphens"):
        load_experiment("{sleep: {learning_rate: 0.1}}")


def test_tasks_that_are_spelled_out_have_their_number_and_order():
    tasks = "{stream: {name: tasks, tasks: [{name: a, classes: [phantom-smear/0]}]}}"
    assert load_experiment(tasks).stream.tasks
    for key, value in (("stream-task-count", 1), ("stream-order", "shuffled")):
        with pytest.raises(ConfigError, match="leave out stream-task-count and stream-order"):
            load_experiment(tasks, {key: value})


def test_an_empty_section_takes_overrides_and_one_that_is_no_mapping_is_refused():
    assert load_experiment("sleep:\nseed: 3", {"sleep-epochs": 6}).sleep.epochs == 6
    with pytest.raises(ConfigError, match="'sleep' is 5, expected a mapping of keys, such as 'epochs'"):
        load_experiment("sleep: 5\nseed: 3", {"sleep-epochs": 6})


def test_folders_come_from_the_key_then_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BRAINCL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("BRAINCL_DATA", str(tmp_path / "data"))
    assert ExperimentConfig().state_folder == tmp_path / "state"
    assert ExperimentConfig(state_root="/elsewhere").state_folder == Path("/elsewhere")
    assert ExperimentConfig().data_folder == tmp_path / "data"
    monkeypatch.delenv("BRAINCL_DATA")
    assert ExperimentConfig().data_folder is None
