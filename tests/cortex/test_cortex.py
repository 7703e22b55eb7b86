import numpy as np
import pytest
import torch

from braincl_med.cortex.cortex import Cortex, extract_features, predict
from braincl_med.settings.config import CortexConfig

SMALL = CortexConfig(stem="3x3-stride2")


def scans(count=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28, 3)).astype(np.uint8)


def test_widening_keeps_the_old_rows_and_adds_new_ones_with_bias_zero():
    torch.manual_seed(0)
    cortex = Cortex(2, SMALL)
    cortex.classifier.bias.data += 1
    before = predict(cortex, scans())
    cortex.widen(5)
    after = predict(cortex, scans())
    assert after.shape == (6, 5)
    assert np.allclose(after[:, :2], before, atol=1e-5)
    assert (cortex.classifier.bias[2:] == 0).all()
    assert cortex.classifier.weight[2:].std() > 0
    with pytest.raises(ValueError, match="cannot shrink"):
        cortex.widen(3)


@pytest.mark.parametrize("stem", ["imagenet", "3x3", "3x3-stride2"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_every_stem_and_normalisation_gives_512_features(stem, norm):
    cortex = Cortex(3, CortexConfig(stem=stem, norm=norm))
    assert extract_features(cortex, scans(2)).shape == (2, 512)
    kinds = {type(m).__name__ for m in cortex.modules()}
    assert ("BatchNorm2d" in kinds) == (norm == "batch")
    assert ("GroupNorm" in kinds) == (norm == "group")


def test_a_scan_is_predicted_alike_alone_and_in_company():
    cortex = Cortex(3, SMALL).train()
    assert np.allclose(predict(cortex, scans(5))[:1], predict(cortex, scans(5)[:1]), atol=1e-4)
    assert cortex.training


def test_weights_rebuild_the_same_network():
    cortex = Cortex(4, SMALL)
    again = Cortex.of(cortex.weights(), SMALL)
    assert np.array_equal(predict(cortex, scans()), predict(again, scans()))


def test_no_scans_give_no_logits():
    assert predict(Cortex(3, SMALL), scans(0)).shape == (0, 3)


def test_a_compiled_backbone_has_the_same_weights_and_answers(monkeypatch):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    # Kernels would take a minute to build; what is traced shows as much.
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **_: compiled(function, backend=backend))
    plain = Cortex(3, SMALL)
    traced = Cortex.of(plain.weights(), SMALL.model_copy(update={"compile": True}))
    assert np.allclose(predict(traced, scans()), predict(plain, scans()), atol=1e-5)
    assert len(graphs) == 1
    assert traced.weights().keys() == plain.weights().keys()
