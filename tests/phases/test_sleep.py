import numpy as np
import pytest
import torch

from braincl_med.cortex.cortex import Cortex, predict
from braincl_med.phases.rounds import epochs_of_round
from braincl_med.phases.sleep import augment, calibrate, learning_rate, sleep
from braincl_med.settings.config import CortexConfig, SleepConfig
from tests.phases.test_wake import two_tints

SMALL = CortexConfig(stem="3x3-stride2")


def test_steps_are_the_papers_schedule():
    config = SleepConfig(learning_rate=0.1, epochs=60)
    rates = [learning_rate(config, epoch / 60) for epoch in (0, 19, 20, 39, 40, 59)]
    assert np.allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_cosine_warms_up_and_ends_at_one_percent():
    config = SleepConfig(learning_rate=0.1, schedule="cosine")
    assert learning_rate(config, 0) < 0.01
    assert learning_rate(config, 0.05) == pytest.approx(0.1)
    assert learning_rate(config, 0.999999) == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize(("epochs", "rounds"), [(60, 4), (10, 3), (5, 5)])
def test_rounds_share_all_epochs_without_gap_or_overlap(epochs, rounds):
    shares = [epochs_of_round(epochs, rounds, r) for r in range(rounds)]
    assert [first for first, _ in shares] == [sum(n for _, n in shares[:r]) for r in range(rounds)]
    assert sum(n for _, n in shares) == epochs
    assert min(n for _, n in shares) >= 1


def test_sleep_learns_and_repeats_itself_with_the_same_seed():
    scans = two_tints()
    config = SleepConfig(rounds=1, epochs=12, batch_size=8, learning_rate=0.02)
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        cortex = Cortex(2, CortexConfig(network="small"))
        loss = sleep(cortex, scans, config, 0, seed=3, dithering=0.05)
        # Running statistics of so few steps lag behind the weights.
        calibrate(cortex, scans, 40)
        states.append(cortex.weights())
    assert loss < 0.4
    assert (predict(cortex, scans.images).argmax(1) == scans.labels).mean() > 0.9
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_dithering_adds_noise_up_to_its_strength_and_nothing_else_changes():
    plain = SleepConfig(crop_padding=0, flip=False)
    scans = torch.full((200, 3, 8, 8), 0.5)
    assert torch.equal(augment(scans, plain, 0), scans)
    spread = augment(scans, plain, 0.08).std(dim=(1, 2, 3))
    assert 0.03 < spread.mean() < 0.05
    assert spread.max() < 0.1


def test_crops_and_flips_only_move_pixels():
    torch.manual_seed(0)
    row = torch.arange(8.0).expand(1, 3, 8, 8)
    moved = augment(row.repeat(50, 1, 1, 1), SleepConfig(crop_padding=2), 0)
    assert moved.shape == (50, 3, 8, 8)
    assert set(moved.unique().tolist()) <= set(range(8))
    directions = {float((scan[0, 0, 4] - scan[0, 0, 3]).sign()) for scan in moved}
    assert directions == {1.0, -1.0}
    # A crop never mixes rows and columns: every row of a scan stays the same row of pixels.
    assert all((scan[0] == scan[0, :1]).all() for scan in moved)


def test_calibration_gives_the_statistics_of_the_scans_and_changes_no_weight():
    torch.manual_seed(0)
    cortex = Cortex(2, SMALL)
    scans = two_tints()
    before = cortex.weights()
    calibrate(cortex, scans, batch_size=100)
    after = cortex.weights()
    assert {n for n in before if not torch.equal(before[n], after[n])} == {
        n for n in before if "running_" in n or "num_batches" in n
    }
    with torch.no_grad():
        pixels = (torch.from_numpy(scans.images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        first = cortex.backbone.conv1(pixels)
    assert torch.allclose(after["backbone.bn1.running_mean"], first.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(after["backbone.bn1.running_var"], first.var((0, 2, 3)), rtol=1e-3)
