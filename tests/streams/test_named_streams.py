from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braincl_med.foundation.errors import ConfigError
from braincl_med.settings.config import ExplicitTask, StreamConfig
from braincl_med.streams.catalogue import parse_class
from braincl_med.streams.named import build_registry, unknown_sets
from braincl_med.streams.tasks import Registry


def registry_of(seed: int = 1, **settings: Any) -> Registry:
    return build_registry(StreamConfig(**settings), seed)


def lengths(registry: Registry) -> list[int]:
    return [len(task.classes) for task in registry.tasks]


@pytest.mark.parametrize("order", ["clinical", "shuffled"])
def test_medmnist40_is_ten_tasks_of_four(order: str) -> None:
    registry = registry_of(name="medmnist40", order=order)
    assert lengths(registry) == [4] * 10
    assert len({spec.key for spec in registry.classes}) == 40


@pytest.mark.parametrize(
    ("name", "expected"), [("medmnist12", [3] * 4), ("medmnist17", [5, 4, 4, 4]), ("phantom", [4, 3, 2])]
)
def test_default_tasks(name: str, expected: list[int]) -> None:
    assert lengths(registry_of(name=name)) == expected


def test_clinical_order_is_set_by_set() -> None:
    names = [spec.dataset for spec in registry_of(name="medmnist40").classes]
    assert names == sorted(names, key=names.index)
    assert names[0] == "pathmnist"


def test_shuffled_order_is_a_permutation_that_depends_on_the_seed_alone() -> None:
    clinical, first, again, other = (
        [spec.key for spec in registry_of(seed, name="medmnist40", order=order).classes]
        for seed, order in ((1, "clinical"), (1, "shuffled"), (1, "shuffled"), (2, "shuffled"))
    )
    assert sorted(first) == sorted(clinical)
    assert first == again
    assert first not in (clinical, other)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 9), seed=st.integers(0, 2**31 - 1), order=st.sampled_from(["clinical", "shuffled"]))
def test_any_count_of_tasks_splits_evenly(count: int, seed: int, order: str) -> None:
    registry = registry_of(seed, name="phantom", task_count=count, order=order)
    assert len(registry.tasks) == count
    assert max(lengths(registry)) - min(lengths(registry)) <= 1
    assert len(registry.classes) == 9
    assert len({task.name for task in registry.tasks}) == count


def test_more_tasks_than_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"13 is above the 12 classes"):
        registry_of(name="medmnist12", task_count=13)


def test_chosen_sets_are_one_task_each() -> None:
    registry = registry_of(name="medmnist", sets=("retinamnist", "breastmnist"))
    assert lengths(registry) == [5, 2]
    assert registry.classes[0].name == "retina: grade 0"


@pytest.mark.parametrize(
    ("sets", "word"),
    [(("chestmnist",), "several labels"), (("x",), "no MedMNIST"), (("breastmnist", "breastmnist"), "learned once")],
)
def test_bad_sets_are_refused(sets: tuple[str, ...], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        registry_of(name="medmnist", sets=sets)


def test_explicit_tasks_keep_their_names() -> None:
    blood = ExplicitTask(name="blood", classes=("bloodmnist/6", "bloodmnist/basophil"))
    mixed = ExplicitTask(name="mixed", classes=("phantom-xray/0", "breastmnist/1"))
    registry = registry_of(name="tasks", tasks=(blood, mixed))
    assert [task.name for task in registry.tasks] == ["blood", "mixed"]
    assert [spec.key for spec in registry.classes] == [
        "bloodmnist/6",
        "bloodmnist/0",
        "phantom-xray/0",
        "breastmnist/1",
    ]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("bloodmnist/8", "0 \\(basophil\\)"),
        ("bloodmnist/-1", "no class"),
        ("bloodmnist", "dataset/label"),
        ("phantom-mri/0", "phantom-smear"),
        ("bloodmist/0", "bloodmnist"),
    ],
)
def test_bad_classes_are_refused_with_what_is_allowed(text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        registry_of(name="tasks", tasks=(ExplicitTask(name="one", classes=(text,)),))


@pytest.mark.parametrize(
    ("text", "key", "name"),
    [
        ("bloodmnist/6", "bloodmnist/6", "blood: neutrophil"),
        (" bloodmnist / Neutrophil ", "bloodmnist/6", "blood: neutrophil"),
        ("breastmnist/normal, benign", "breastmnist/1", "breast: normal, benign"),
        ("phantom-smear/lobed nucleus", "phantom-smear/1", "synthetic smear: lobed nucleus"),
        ("phantom-smear/synthetic smear: lobed nucleus", "phantom-smear/1", "synthetic smear: lobed nucleus"),
    ],
)
def test_classes_are_found_by_label_and_by_name(text: str, key: str, name: str) -> None:
    spec = parse_class(text)
    assert (spec.key, spec.name) == (key, name)


def test_phantom_classes_say_that_they_are_synthetic() -> None:
    assert all(spec.name.startswith("synthetic ") for spec in registry_of(name="phantom").classes)


@pytest.mark.parametrize(
    ("settings_", "expected"),
    [
        ({"name": "medmnist40"}, ("retinamnist",)),
        ({"name": "medmnist17"}, ()),
        ({"name": "phantom"}, ("phantom-fundus",)),
        ({"name": "phantom", "unknown": ("organamnist", "phantom-fundus")}, ("organamnist", "phantom-fundus")),
    ],
)
def test_unknown_sets(settings_: dict[str, Any], expected: tuple[str, ...]) -> None:
    stream = StreamConfig(**settings_)
    assert unknown_sets(stream, build_registry(stream, 1)) == expected


@pytest.mark.parametrize("name", ["phantom-xray", "chestmnist"])
def test_a_learned_or_unusable_set_cannot_be_unknown(name: str) -> None:
    stream = StreamConfig(unknown=(name,))
    with pytest.raises(ConfigError, match=name):
        unknown_sets(stream, build_registry(stream, 1))


def test_shuffled_tasks_mix_sets() -> None:
    mixed = [
        len({spec.dataset for spec in task.classes})
        for task in registry_of(name="medmnist40", order="shuffled").tasks
    ]
    assert np.mean(mixed) > 2
