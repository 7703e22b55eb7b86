"""A method, a source and a backbone from outside the package, each by one entry in one list."""

import numpy as np
import pytest
import torch
from torch import nn

from braincl_med.cortex.backbones import BACKBONES, Backbone
from braincl_med.federation.local import run_locally
from braincl_med.foundation.errors import ConfigError
from braincl_med.messages.report import Report
from braincl_med.methods import METHODS
from braincl_med.methods.base import Method, raw_scans
from braincl_med.methods.evaluate import EVALUATE
from braincl_med.methods.phase import Phase
from braincl_med.methods.training import SHARED, TRAIN, training_rounds
from braincl_med.records.store import RunStore
from braincl_med.records.summary import summarise
from braincl_med.settings.loading import load_experiment
from braincl_med.settings.methods import FACTS, MethodFacts
from braincl_med.streams.held import Held
from braincl_med.streams.sources import SOURCES


class Stripes:
    """A source of one data set: stripes that lie or stand."""

    free_text = False
    synthetic = True
    unknown = ""

    def holds(self, dataset):
        return dataset == "stripes"

    def title(self, dataset):
        return "stripes"

    def class_names(self, dataset):
        return ("lying", "standing")

    def shared(self, dataset, place):
        return True

    def require(self, classes, split, stream, place):
        pass

    def held(self, dataset, split, stream, place):
        waves = 127 + 120 * np.sin(
            np.arange(stream.size) * np.random.default_rng(len(split)).uniform(0.8, 1.2, (40, 1))
        )
        lying = np.broadcast_to(waves[:, :, None], (40, stream.size, stream.size))
        scans = np.where((np.arange(40) % 2 == 0)[:, None, None], lying, lying.swapaxes(1, 2))
        images = np.repeat(scans[..., None], 3, axis=-1).astype(np.uint8)
        return Held(np.arange(40) % 2, lambda rows: images[rows])

    def described(self, datasets, stream):
        return "STRIPES"


class Edges(nn.Module):
    """The mean size of both gradients, and a bias: what tells stripes apart without learning anything."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, scans):
        down = scans.diff(dim=2).abs().mean((1, 2, 3))
        along = scans.diff(dim=3).abs().mean((1, 2, 3))
        return torch.stack([down, along], 1) * self.scale


counted = []


def _count(site, order):
    counted.append(len(site.raw(order.registry, order.task)))
    return Report(site.name, examples=counted[-1])


COUNT = Phase("count", _count)
TOY = Method(
    "toy",
    (COUNT, TRAIN, *SHARED, EVALUATE),
    lambda config: ((COUNT, 0), *training_rounds(config, TRAIN), (EVALUATE, 0)),
    raw_scans,
)

EXPERIMENT = """
name: toys
method: toy
stream: {name: tasks, tasks: [{name: stripes, classes: [stripes/lying, stripes/1]}], test-per-class: 20}
federation: {hospitals: 2}
cortex: {network: edges, norm: group}
sleep: {rounds: 1, epochs: 20, batch-size: 8, learning-rate: 0.3, crop-padding: 0, flip: false}
"""


@pytest.fixture
def _toys(monkeypatch):
    monkeypatch.setitem(FACTS, "toy", MethodFacts())
    monkeypatch.setitem(METHODS, "toy", TOY)
    monkeypatch.setitem(BACKBONES, "edges", Backbone(2, lambda config: Edges()))
    monkeypatch.setattr("braincl_med.streams.sources.SOURCES", [Stripes(), *SOURCES])


@pytest.mark.usefixtures("_toys")
def test_a_method_a_source_and_a_backbone_from_outside_learn_together(tmp_path):
    run_locally(load_experiment(EXPERIMENT, {"state-root": str(tmp_path)}))
    summary = summarise(RunStore(tmp_path), "toys")
    assert (summary.method, summary.data) == ("toy", "STRIPES, 28 px")
    assert [row.phase for row in summary.phases] == ["count", "train", "evaluate"]
    assert [row.name for row in summary.classes] == ["stripes: lying", "stripes: standing"]
    assert summary.last_accuracy == 1
    assert sum(counted) == 40


def test_what_nobody_registered_is_refused_with_what_there_is(tmp_path):
    with pytest.raises(ConfigError, match=r"'method' is 'toy', expected one of: braincl, joint"):
        load_experiment(EXPERIMENT)
    plain = load_experiment("{}", {"cortex-network": "edges", "state-root": str(tmp_path)})
    with pytest.raises(ConfigError, match=r"no backbone 'edges' \(cortex-network\): take resnet18"):
        run_locally(plain)
