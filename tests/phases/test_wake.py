import numpy as np
import torch

import tests.small_backbone  # noqa: F401
from braincl_med.cortex.cortex import Cortex, predict
from braincl_med.phases.wake import wake
from braincl_med.settings.config import CortexConfig, WakeConfig
from braincl_med.streams.tasks import Scans

SMALL = CortexConfig(network="small")


def two_tints(labels=(0, 1), count=20, seed=0):
    """Noise scans, reddish for the first class and bluish for the second."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 80, (2 * count, 28, 28, 3))
    images[:count, ..., 0] += 150
    images[count:, ..., 2] += 150
    return Scans(images.astype(np.uint8), np.repeat(labels, count).astype(np.int64))


def test_wake_changes_the_classifier_and_nothing_else():
    torch.manual_seed(0)
    cortex = Cortex(2, SMALL)
    before = cortex.weights()
    scans = two_tints()
    first = wake(cortex, scans, WakeConfig(learning_rate=0.1), range(2), epochs=1, seed=1)
    last = wake(cortex, scans, WakeConfig(learning_rate=0.1), range(2), epochs=10, seed=2)
    after = cortex.weights()
    assert last < first
    assert (predict(cortex, scans.images).argmax(1) == scans.labels).mean() > 0.95
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_new_rows_alone_learn_their_classes_and_leave_the_old_ones_as_they_are():
    torch.manual_seed(0)
    cortex = Cortex(4, SMALL)
    before = cortex.weights()
    scans = two_tints(labels=(2, 3))
    wake(cortex, scans, WakeConfig(learning_rate=0.1), range(2, 4), epochs=10, seed=1)
    after = cortex.weights()
    assert torch.equal(after["classifier.weight"][:2], before["classifier.weight"][:2])
    assert torch.equal(after["classifier.bias"][:2], before["classifier.bias"][:2])
    assert (predict(cortex, scans.images)[:, 2:].argmax(1) + 2 == scans.labels).mean() > 0.95


def test_the_same_seed_gives_the_same_classifier_and_another_seed_another():
    rows = []
    for seed in (5, 5, 6):
        torch.manual_seed(0)
        cortex = Cortex(2, SMALL)
        wake(cortex, two_tints(), WakeConfig(batch_size=8), range(2), epochs=2, seed=seed)
        rows.append(cortex.classifier.weight.detach())
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
