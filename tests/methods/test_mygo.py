import copy
import dataclasses
import shutil

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from braincl_med.cortex.cortex import Cortex, new_rows, predict
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.methods.dreams import Dreamer, Generator, learn_to_dream
from braincl_med.methods.kept import Kept
from braincl_med.methods.mygo import distillation
from braincl_med.phases.sleep import calibrate, sleep
from braincl_med.phases.wake import wake
from braincl_med.records.store import RunStore
from braincl_med.settings.config import CortexConfig, SleepConfig, WakeConfig
from braincl_med.settings.methods import MygoConfig
from braincl_med.streams.tasks import Scans
from tests.federation.experiments import tiny
from tests.methods.one_hospital import hospital_with, noise, order_for
from tests.methods.small_network import SmallNetwork
from tests.phases.test_wake import two_tints

SMALL = CortexConfig(network="small")
FOR_DIGITS = SleepConfig(rounds=1, epochs=8, batch_size=32, learning_rate=0.01, crop_padding=0, flip=False)
QUICK = MygoConfig(generator_steps=3)


@pytest.fixture(autouse=True)
def _small_generators(monkeypatch):
    """Generators a quarter as wide, trained on few scans at a time."""
    for name, value in {"TRAINING_BATCH": 4, "CHANNELS": 4, "HIDDEN_UNITS": 16, "NOISE": 8}.items():
        monkeypatch.setattr(f"braincl_med.methods.dreams.{name}", value)


def digits():
    """Handwritten digits of 8 px in three tasks of two classes; the training and the test scans of each."""
    pixels, labels = load_digits(return_X_y=True)
    images = np.repeat((pixels.reshape(-1, 8, 8, 1) / 16 * 255).astype(np.uint8), 3, axis=-1)
    parts = train_test_split(images, labels.astype(np.int64), test_size=0.3, random_state=0, stratify=labels)
    train, test = Scans(parts[0], parts[2]), Scans(parts[1], parts[3])
    return [[split.take(split.labels // 2 == task) for task in range(3)] for split in (train, test)]


def learn_digits(tasks, config=None):
    """A small network that has learned the tasks in turn, by MyGO with `config` or else by finetuning."""
    torch.manual_seed(0)
    network = SmallNetwork(2)
    dreamers = []
    for task, raw in enumerate(tasks):
        network.widen(2 * task + 2)
        if config is not None:
            dreamers.append(Dreamer.of(learn_to_dream(raw, config, task).arrays(), config.generator))
        if config is None or task == 0:
            sleep(network, raw, FOR_DIGITS, 0, task, 0.0)
            continue
        dreams = [dreamer.dream(10 * task + number) for number, dreamer in enumerate(dreamers)]
        counterparts = Scans.join([raw, *dreams[:-1]])
        new, settings = range(2 * task, 2 * task + 2), WakeConfig(batch_size=32, learning_rate=0.1)
        wake(network, counterparts, settings, new, 10, task, rivals=2 * task)
        teacher, samples = copy.deepcopy(network), Scans.join(dreams)
        new_rows(network.classifier, 2 * task)
        sleep(network, samples, FOR_DIGITS, 0, task, 0.0, distillation(teacher))
        calibrate(network, samples.take(np.random.default_rng(0).permutation(len(samples))), 64)
    return network


def test_mygo_remembers_digits_that_finetuning_forgets(monkeypatch):
    for name, value in {"TRAINING_BATCH": 32, "CHANNELS": 8, "NOISE": 64, "LEARNING_RATE": 2e-3}.items():
        monkeypatch.setattr(f"braincl_med.methods.dreams.{name}", value)
    train, test = digits()
    held_out = Scans.join(test)

    def accuracy(network):
        return (predict(network, held_out.images).argmax(1) == held_out.labels).mean()

    config = MygoConfig(generator_steps=100)
    assert accuracy(learn_digits(train)) < 0.4
    assert accuracy(learn_digits(train, config)) > 0.7


@pytest.mark.parametrize("kind", ["convolutional", "mlp"])
@pytest.mark.parametrize("size", [28, 64, 8])
def test_generators_make_scans_of_any_size_within_range(kind, size):
    made = Generator(size, 3, 2, kind)(100 * torch.randn(5, 8), torch.tensor([0, 1, 1, 0, 1]))
    assert made.shape == (5, 3, size, size)
    assert made.abs().max() <= 1
    assert made.std() > 0


@pytest.mark.parametrize("kind", ["convolutional", "mlp"])
def test_a_kept_generator_dreams_as_before_and_of_the_classes_it_has_seen(tmp_path, kind):
    config = QUICK.model_copy(update={"generator": kind})
    scans = noise([4, 7, 7, 4, 4, 4, 7, 4])
    dreamer = learn_to_dream(scans, config, seed=1)
    kept = Kept(tmp_path)
    kept.save("generator", 2, dreamer.arrays())
    arrays = kept.load("generator", 2)
    assert {a.dtype for name, a in arrays.items() if name.startswith("generator.")} == {np.dtype(np.float16)}
    weights = sum(p.numel() for p in dreamer.generator.parameters())
    assert 2 * weights < kept.sizes()["generator"] < 2 * weights + 4000
    before, after = dreamer.dream(5), Dreamer.of(arrays, kind).dream(5)
    np.testing.assert_array_equal(before.labels, [4] * 5 + [7] * 3)
    np.testing.assert_array_equal(after.labels, before.labels)
    assert abs(after.images.astype(int) - before.images).max() <= 3
    assert not np.array_equal(Dreamer.of(arrays, kind).dream(6).images, after.images)


def test_grey_scans_are_dreamt_grey_and_colour_in_colour():
    grey, colour = (learn_to_dream(noise([0, 0, 1], grey=g), QUICK, 1) for g in (True, False))
    assert np.ptp(grey.dream(0).images, axis=-1).max() == 0
    assert np.ptp(colour.dream(0).images, axis=-1).max() > 0
    assert grey.generator.shape == (1, 28, 28)


def test_dreams_of_a_class_look_like_its_scans(monkeypatch):
    monkeypatch.setattr("braincl_med.methods.dreams.TRAINING_BATCH", 16)
    scans = two_tints(labels=(3, 5))
    config = QUICK.model_copy(update={"generator_steps": 60})
    dreams = learn_to_dream(scans, config, seed=2).dream(0)
    red, blue = (dreams.images[dreams.labels == label].mean((0, 1, 2)) for label in (3, 5))
    assert red[0] > red[2] + 30
    assert blue[2] > blue[0] + 30


def test_waking_trains_new_rows_to_be_told_from_old_ones_and_changes_nothing_else():
    torch.manual_seed(0)
    network = SmallNetwork(4)
    train, test = digits()
    sleep(network, train[0], FOR_DIGITS, 0, 0, 0.0)
    before = copy.deepcopy(network.state_dict())
    settings = WakeConfig(batch_size=32, learning_rate=0.1)
    new, scans = range(2, 4), Scans.join(train[:2])
    first = wake(copy.deepcopy(network), scans, settings, new, 1, 0, rivals=2)
    assert wake(network, scans, settings, new, 20, 0, rivals=2) < first
    after = network.state_dict()
    assert {n for n in before if not torch.equal(before[n], after[n])} == {"classifier.weight", "classifier.bias"}
    assert torch.equal(after["classifier.weight"][:2], before["classifier.weight"][:2])
    assert torch.equal(after["classifier.bias"][:2], before["classifier.bias"][:2])
    held_out = Scans.join(test[:2])
    assert (predict(network, held_out.images).argmax(1) == held_out.labels).mean() > 0.8


def test_distillation_is_the_mean_squared_difference_of_logits_and_trains_the_student_alone():
    torch.manual_seed(0)
    teacher, student, scans = SmallNetwork(3), SmallNetwork(3).eval(), torch.rand(4, 3, 8, 8)
    loss = distillation(teacher)(student, scans, torch.zeros(4, dtype=torch.long))
    with torch.no_grad():
        wanted = ((teacher(scans) - student(scans)) ** 2).sum() / 12
    assert loss.item() == pytest.approx(wanted.item())
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert student.classifier.weight.grad.any()
    assert distillation(teacher)(teacher, scans, None).item() == 0


def test_the_teacher_is_the_network_of_the_first_round_and_gone_after_the_last(tmp_path):
    tasks = {0: noise([0, 1, 2, 0, 1]), 1: noise([3, 4, 3, 4])}
    quick = {"mygo_generator_steps": 1, "sleep_epochs": 2}
    hospital = hospital_with(tmp_path, tasks, method="mygo", **quick)
    torch.manual_seed(0)
    first, later = (Cortex(5, SMALL).weights() for _ in range(2))

    def answered(phase, weights, task=1, number=0):
        sent = weights if phase == "consolidate" else {}
        report = hospital.answer(order_for(phase, task, sent, number=number))
        assert not report.failure
        return report

    # A hospital that missed the first round has no teacher.
    for task in (0, 1):
        answered("dream", first, task)
    assert answered("consolidate", later, number=1).examples == answered("remember", later).examples == 0
    before = answered("consolidate", first)
    kept = hospital.kept.load("teacher", 1)
    assert all(np.array_equal(kept[name], tensor) for name, tensor in first.items())
    assert before.examples == 9
    second = answered("consolidate", later, number=1)
    assert second.weights.keys() == first.keys()
    assert set(hospital.kept.sizes()) == {"generator", "teacher"}
    answered("remember", later)
    assert set(hospital.kept.sizes()) == {"generator"}


def test_new_rows_of_the_student_begin_alike_at_all_hospitals_and_old_ones_as_they_were(tmp_path):
    tasks = {0: noise([0, 1, 2, 0, 1]), 1: noise([3, 4, 3, 4])}
    still = {"mygo_learning_rate": 1e-12, "mygo_generator_steps": 1}
    torch.manual_seed(0)
    weights = Cortex(5, SMALL).weights()
    rows = []
    for name in ("site-0", "site-1"):
        hospital = hospital_with(tmp_path, tasks, name=name, method="mygo", sleep_weight_decay=0, **still)
        for task in (0, 1):
            hospital.answer(order_for("dream", task, {}))
        rows.append(hospital.answer(order_for("consolidate", 1, weights)).weights["classifier.weight"])
    torch.testing.assert_close(rows[0], rows[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(rows[0][:3], weights["classifier.weight"][:3], atol=1e-6, rtol=0)
    assert (rows[0][3:] - weights["classifier.weight"][3:]).abs().max() > 0.01


def figures(state):
    store = RunStore(state)
    steps = [dataclasses.replace(step, seconds=0) for step in store.steps("tiny")]
    kept = {(path.parts[-4], path.name): path.read_bytes() for path in state.glob("site-*/tiny/kept/*")}
    return store.tally("tiny").correct.tolist(), store.storage("tiny"), steps, kept


def test_a_run_over_three_tasks_that_is_stopped_between_rounds_resumes_to_the_same_results(tmp_path):
    small = {
        "method": "mygo",
        "mygo_generator_steps": 3,
        "stream_train_per_class": 4,
        "stream_test_per_class": 2,
    }
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    config = tiny(whole, **small)
    exchange = local_exchange(local_hospitals(config))

    def copying(order):
        # What a kill would leave once the first round has left its teacher at the hospitals.
        if (order.task, order.phase, order.round) == (2, "consolidate", 1):
            shutil.copytree(whole, stopped)
        return exchange(order)

    Coordinator(config, copying).run()
    confusions, storage, steps, kept = figures(whole)
    rounds = [("head", 0), ("consolidate", 0), ("consolidate", 1), ("calibrate", 0)]
    assert [(s.phase, s.round) for s in steps] == [("dream", 0), *rounds, ("remember", 0), ("evaluate", 0)] * 3
    assert [s.examples for s in steps if (s.phase, s.round) == ("consolidate", 1)] == [12, 24, 36]
    assert {item for _, _, item, size in storage if size} == {"generator"}
    assert sorted(name for _, name in kept) == [f"generator-{t}.kept" for t in (0, 0, 1, 1, 2, 2)]

    assert len(list(stopped.glob("site-*/tiny/kept/teacher-2.*"))) == 2
    run_locally(tiny(stopped, resume=True, **small))
    assert figures(stopped) == (confusions, storage, steps, kept)
