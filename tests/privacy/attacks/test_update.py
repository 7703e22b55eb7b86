import time

import numpy as np
import torch
from torch import nn

from braincl_med.cortex.cortex import Cortex, extract_features
from braincl_med.phases.wake import wake
from braincl_med.privacy.attacks import inversion
from braincl_med.privacy.attacks.inversion import decibels, gradients, invert
from braincl_med.privacy.attacks.update import judged, read
from braincl_med.settings.config import CortexConfig, WakeConfig
from braincl_med.streams.tasks import Scans
from tests.privacy.attacks.blobs import blobs
from tests.small_backbone import SmallBackbone  # noqa: F401  (registers "small")


def classifier_updates(features, labels, batch):
    """A linear classifier's gradients, a batch each."""
    torch.manual_seed(0)
    classifier = nn.Linear(features.shape[1], 5)
    updates = []
    for start in range(0, len(labels), batch):
        part = slice(start, start + batch)
        weights, biases = gradients(classifier, features[part], labels[part])
        updates.append((weights.detach().double().numpy(), biases.detach().double().numpy()))
    return updates


def test_one_scans_features_and_class_are_read_exactly_and_those_of_eight_are_not():
    features, labels = torch.randn(64, 30, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 5
    for batch, exact in ((1, 1.0), (8, 0.0)):
        cut = [slice(i, i + batch) for i in range(0, 64, batch)]
        found = judged(
            batch,
            classifier_updates(features, labels, batch),
            [features[c].double().numpy() for c in cut],
            [labels[c].numpy() for c in cut],
        )
        assert found.as_json()["exact"] == exact
        if batch == 1:
            assert found.error.max() < 1e-6
            assert found.labels == 64


def test_a_masked_update_gives_nothing():
    rng = np.random.default_rng(0)
    features, labels = torch.randn(50, 30), torch.arange(50) % 5
    masked = []
    for weights, biases in classifier_updates(features, labels, 1):
        # As the server sees it under secure aggregation: fixed point plus a uniform mask modulo 2^32.
        ring = [(np.round(x * 2**16).astype(np.int64) + rng.integers(0, 2**32, x.shape)) % 2**32
                for x in (weights, biases)]  # fmt: skip
        masked.append(tuple((r.astype(np.float64) - 2**31) / 2**16 for r in ring))
    found = judged(1, masked, [f[None].double().numpy() for f in features], [lab[None].numpy() for lab in labels])
    assert found.error.min() > 0.5
    assert found.labels < 25
    assert read(np.zeros((5, 30)), np.zeros(5)) is None


def test_a_hospitals_wake_on_one_scan_tells_its_features():
    torch.manual_seed(0)
    cortex = Cortex(4, CortexConfig(network="small")).eval()
    images, _ = blobs(1)
    before = cortex.weights()
    features = extract_features(cortex, images)[0].double().numpy()
    config = WakeConfig(epochs=5, learning_rate=0.1, weight_decay=0)
    wake(cortex, Scans(images, np.array([2])), config, range(4), 5, seed=0)
    after = cortex.weights()
    weights, biases = ((before[n] - after[n]).double().numpy() for n in ("classifier.weight", "classifier.bias"))
    found = read(weights, biases)
    assert found.label == 2
    assert np.linalg.norm(found.features - features) < 1e-4 * np.linalg.norm(features)


def small_network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 5, 2, 2), nn.Sigmoid(), nn.Conv2d(8, 12, 5, 2, 2), nn.Sigmoid(), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(12 * 16, 4))
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    return network


def test_a_small_networks_gradients_give_the_image_and_those_of_noise_do_not(monkeypatch):
    monkeypatch.setattr(inversion, "MOST_STEPS", 200)  # and not by the clock, which other processes share
    network = small_network()
    scan = torch.from_numpy(blobs(1, 3)[0][0]).permute(2, 0, 1).float() / 255
    observed = gradients(network, scan[None], torch.tensor([1]))
    found = invert(network, observed, 1, (3, 16, 16), time.monotonic() + 60, "squared")
    figures = found.judged(scan)
    assert figures["psnr"] > figures["flat"] + 6
    assert figures["distance"] < 1e-4
    noise = [torch.randn(g.shape) for g in observed]
    assert decibels(invert(network, noise, 1, (3, 16, 16), time.monotonic() + 60, "squared").image, scan) < 15


def test_the_cosine_attack_comes_nearer_the_longer_it_runs_and_ends_with_its_time(monkeypatch):
    monkeypatch.setattr(inversion, "MOST_STEPS", 100)
    network = small_network()
    scan = torch.from_numpy(blobs(1, 3)[0][0]).permute(2, 0, 1).float() / 255
    observed = gradients(network, scan[None], torch.tensor([1]))
    at_once = invert(network, observed, 1, (3, 16, 16), time.monotonic(), "cosine")
    assert (at_once.steps, at_once.seconds < 1) == (0, True)
    found = invert(network, observed, 1, (3, 16, 16), time.monotonic() + 60, "cosine")
    assert found.distance < 0.2 * at_once.distance
    monkeypatch.setattr(inversion, "MOST_STEPS", 10**9)
    assert invert(network, observed, 1, (3, 16, 16), time.monotonic() + 0.3, "cosine").seconds < 10
