import dataclasses
import os

import numpy as np
import pytest
import torch

from braincl_med.cortex.attention import Attention, last_maps
from braincl_med.cortex.backbones import BACKBONES, Backbone
from braincl_med.cortex.cortex import Cortex
from braincl_med.cortex.cortex import predict as logits_of
from braincl_med.cortex.familiarity import Familiarity
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, load_moments, load_weights, save_checkpoint
from braincl_med.foundation.errors import ConfigError
from braincl_med.inference.answer import Verdict, answers
from braincl_med.inference.explain import Explainer, Maps, overlay
from braincl_med.inference.model import Model
from braincl_med.inference.network import Network
from braincl_med.inference.opening import of_experiment, opened
from braincl_med.inference.predict import predict
from braincl_med.inference.reading import files_of, scans_of
from braincl_med.methods import METHODS
from braincl_med.scans.reading import read_scan
from braincl_med.scans.refusals import Kind, ScanRefusedError
from braincl_med.settings.config import CortexConfig
from braincl_med.streams import phantom
from tests.federation.experiments import as_if_learned, tiny
from tests.scans.files import dicom, grey


@pytest.fixture(scope="module")
def model(used):
    return of_experiment(used.state, "tiny")


def test_answers_are_those_of_evaluation(used, model):
    images = phantom.load("phantom-smear", "test", 28, np.arange(0, 800, 50))[0]
    cortex, folder = Network.of(model).cortex, folder_of(used.state, "tiny")
    with torch.inference_mode():
        logits, probabilities, scores = (t.numpy() for t in Network.of(model)(torch.from_numpy(images)))
    assert np.allclose(logits, logits_of(cortex, images), atol=1e-6)
    sharp = np.exp(logits / model.temperature)
    assert np.allclose(probabilities, sharp / sharp.sum(1, keepdims=True), atol=1e-6)
    familiarity = Familiarity.of(load_moments(folder, load_checkpoint(folder)))
    with torch.inference_mode():
        features = cortex.features(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).numpy()
    assert np.allclose(scores, familiarity.scores(features), atol=1e-9)


def test_the_threshold_sets_the_stated_share_of_known_scans_aside_and_unknown_ones(used, model):
    assert model.operating.score == "familiarity"
    validation = np.concatenate(
        [phantom.load(name, "val", 28, np.arange(0, len(phantom.labels(name, "val")), 10))[0] for name in
         ("phantom-smear", "phantom-xray", "phantom-ultrasound")]
    )  # fmt: skip
    network = Network.of(model)
    known = [a.verdict for a in answers(network, model, validation)]
    unknown = [a.verdict for a in answers(network, model, phantom.load("phantom-fundus", "test", 28)[0][::10])]
    assert set(known) | set(unknown) <= {Verdict.ANSWERED, Verdict.UNKNOWN, Verdict.UNSURE}
    assert 1 - known.count(Verdict.ANSWERED) / len(known) < 0.15
    assert unknown.count(Verdict.UNKNOWN) / len(unknown) > 0.9


def test_a_familiar_scan_of_which_the_classifier_is_unsure_is_set_aside_too(model):
    scans = phantom.load("phantom-smear", "val", 28, np.arange(0, 400, 5))[0]
    sure = float(np.median([answer.sure for answer in answers(Network.of(model), model, scans)]))
    strict = dataclasses.replace(model, operating=model.operating.model_copy(update={"sure": sure}))
    found = answers(Network.of(strict), strict, scans)
    assert {a.verdict for a in found} >= {Verdict.ANSWERED, Verdict.UNSURE}
    for answer in found:
        familiar = answer.score >= strict.operating.threshold
        assert (answer.verdict is Verdict.UNKNOWN) == (not familiar)
        assert (answer.verdict is Verdict.UNSURE) == (familiar and answer.sure < sure)


def test_a_network_without_a_memory_sets_aside_by_its_confidence_and_says_so(used):
    own = of_experiment(used.state, "own")
    assert (own.familiarity, own.operating.score) == (None, "max-softmax")
    assert "carries no memory" in own.caution
    images = phantom.load("phantom-smear", "test", 28, np.arange(0, 600, 3))[0]
    found = answers(Network.of(own), own, images)
    assert {a.verdict for a in found} <= {Verdict.ANSWERED, Verdict.UNSURE}
    for answer in found:
        assert (answer.verdict is Verdict.UNSURE) == (answer.score < own.operating.threshold)


def test_rows_come_in_order_and_every_file_has_one_whatever_the_batch(used, model):
    files = list(files_of([used.scans]))
    assert [f.name for f in files] == sorted(f.name for f in used.scans.iterdir() if f.name != ".hidden.png")
    whole = list(predict(model, files))
    assert [row.file for row in whole] == files
    refused = [row for row in whole if row.answer is None]
    assert [row.file.name for row in refused] == ["broken.png"]
    assert refused[0].verdict is Verdict.REFUSED
    for batch in (1, 7):
        for one, other in zip(whole, predict(model, files, batch), strict=True):
            assert one.file == other.file
            if one.answer:
                assert one.answer.number == other.answer.number
                assert one.answer.score == pytest.approx(other.answer.score, abs=1e-4)
    top = whole[1].answer.top
    assert len(top) == 3
    assert [p for _, p in top] == sorted((p for _, p in top), reverse=True)


def test_a_single_class_has_a_single_answer(model):
    one = model.registry.model_copy(
        update={"tasks": (model.registry.tasks[0].model_copy(update={"classes": model.classes[:1]}),)}
    )
    weights = {n: t[:1] if n.startswith("classifier.") else t for n, t in model.weights.items()}
    alone = Model("x", "braincl", one, model.cortex, 28, "pad", weights, None, None)
    found = answers(Network.of(alone), alone, np.zeros((2, 28, 28, 3), np.uint8))
    assert [a.top for a in found] == [((0, 1.0),)] * 2
    assert found[0].verdict is Verdict.UNGAUGED


def test_reading_ahead_is_bounded_and_stops_with_its_reader(tmp_path, monkeypatch):
    read = []

    def slow(path, size, fit):
        read.append(path)
        return np.zeros((size, size, 3), np.uint8)

    monkeypatch.setattr("braincl_med.inference.reading.read_scan", slow)
    scans = scans_of((tmp_path / str(n) for n in range(1000)), 28, "pad", 5)
    for _ in range(3):
        next(scans)
    scans.close()
    assert len(read) <= 8


def test_pixels_are_those_of_the_one_reading_function_and_refusals_are_passed_on(used, tmp_path, monkeypatch):
    file = next(f for f in files_of([used.scans]) if f.name.startswith("phantom-xray"))
    ((_, scan), (_, missing)) = scans_of([file, tmp_path / "missing.png"], 28, "crop", 2)
    assert np.array_equal(scan, read_scan(file, 28, "crop"))
    assert isinstance(missing, ScanRefusedError)
    assert str(tmp_path) not in str(missing)


def test_dicom_is_read_and_its_refusals_are_rows(model, tmp_path):
    (tmp_path / "1.dcm").write_bytes(dicom(grey()))
    (tmp_path / "2.dcm").write_bytes(dicom(grey(), frames=3))
    one, several = predict(model, files_of([tmp_path]))
    assert one.answer is not None
    assert several.refusal.kind is Kind.FRAMES


def test_a_folder_is_walked_sorted_and_without_what_is_hidden(tmp_path):
    for name in ("b/2.png", "b/.x/3.png", "a/1.png", "c.png", ".d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    found = [f.relative_to(tmp_path).as_posix() for f in files_of([tmp_path])]
    assert found == ["c.png", "a/1.png", "b/2.png"]
    assert list(files_of([tmp_path / "nowhere"])) == [tmp_path / "nowhere"]


def test_what_lies_behind_a_link_or_a_closed_folder_is_refused_and_not_left_out(used, model, tmp_path, monkeypatch):
    good = next(used.scans.glob("phantom-xray*"))
    for name in ("closed", "open"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        (tmp_path / "scans" / name / "1.png").write_bytes(good.read_bytes())
    (tmp_path / "scans" / "again").symlink_to(tmp_path / "scans")
    (tmp_path / "scans" / ".hidden").symlink_to(tmp_path / "scans")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    rows = list(predict(model, files_of([tmp_path / "scans"])))
    told = {row.file.relative_to(tmp_path).as_posix(): row.refusal and row.refusal.reason for row in rows}
    assert told == {
        "scans/again": "links to folders are not followed: name the folder itself",
        "scans/closed": "this user may not look into this folder",
        "scans/open/1.png": None,
    }
    # A link that was named is meant.
    monkeypatch.setattr(os, "scandir", scandir)
    assert len(list(files_of([tmp_path / "scans" / "again"]))) == 3


@pytest.mark.parametrize("name", ["x" * 240, "é" * 120, "漢" * 80, "a漢" * 62])
def test_an_overlays_name_is_short_and_unlike_others(used, model, tmp_path, name):
    good = next(used.scans.glob("phantom-xray*")).read_bytes()
    files = [tmp_path / f"{name}{end}.png" for end in "12"]
    for file in files:
        file.write_bytes(good)
    rows = list(predict(model, files, explainer=Explainer(model, tmp_path / "why")))
    assert {row.overlay for row in rows} == {file.name for file in (tmp_path / "why").iterdir()}
    assert all(len(row.overlay.encode()) <= 91 for row in rows)


class Tokens(torch.nn.Module):
    """As a vision transformer: maps where the scan is cut up, rows of features behind."""

    def __init__(self, last):
        super().__init__()
        self.cut, self.rows, self.last = torch.nn.Conv2d(3, 64, 4, 4), torch.nn.LayerNorm(64), last

    def forward(self, scans):
        maps = self.cut(scans)
        rows = self.rows(maps.permute(0, 2, 3, 1) if self.last else maps.flatten(2).mT)
        return rows.flatten(1, -2).mean(1)


@pytest.mark.parametrize("last", [True, False])
def test_a_transformer_is_refused_before_anything_is_written(model, tmp_path, monkeypatch, last):
    monkeypatch.setitem(BACKBONES, "small", Backbone(64, lambda config: Tokens(last)))
    weights = Cortex(9, model.cortex).weights()
    with pytest.raises(ConfigError, match=r"no maps of features.*: leave --explain out"):
        Explainer(dataclasses.replace(model, weights=weights), tmp_path / "why")
    assert not (tmp_path / "why").exists()


@pytest.mark.parametrize("network", ["vit_tiny_patch16_224", "test_vit"])
def test_transformers_of_timm_are_not_explained(model, tmp_path, network):
    side = 224 if network.startswith("vit") else 160
    config = CortexConfig(network=network, input=side)
    weights = Cortex(9, config).weights()
    with pytest.raises(ConfigError, match="no maps of features"):
        Explainer(dataclasses.replace(model, cortex=config, weights=weights), tmp_path)


@pytest.mark.parametrize(("network", "side"), [("test_resnet", 96), ("lcnet_050", 96), ("test_convnext", 96)])
def test_the_last_maps_have_more_than_one_place(network, side):
    cortex = Cortex(9, CortexConfig(network=network)).eval()
    shapes = []
    module = dict(cortex.named_modules())[last_maps(cortex, side)]
    module.register_forward_hook(lambda _, given, made: shapes.append(made.shape[2:]))
    with torch.no_grad():
        cortex(torch.zeros(1, 3, side, side))
    assert shapes == [(3, 3)]


def test_an_overlay_differs_from_the_scan_where_the_answer_hangs_on_it(used, model, tmp_path):
    file = next(f for f in files_of([used.scans]) if f.name.startswith("phantom-ultrasound-1"))
    (row,) = predict(model, [file], explainer=Explainer(model, tmp_path / "why"))
    from PIL import Image

    picture = np.asarray(Image.open(tmp_path / "why" / row.overlay))
    plain = overlay(read_scan(file, 28), np.zeros((28, 28), np.float32))
    assert picture.shape == plain.shape == (224, 224, 3)
    assert row.overlay.startswith("000001-phantom-ultrasound-1")
    changed = (picture != plain).any(2)
    assert changed.any()


def test_maps_of_a_network_in_half_precision_are_numbers_too():
    cortex = Cortex(3, CortexConfig(network="small", stem="imagenet", precision="bfloat16"))
    maps = Attention(cortex, 28).of_images(np.full((2, 28, 28, 3), 90, np.uint8), 1)
    assert maps.numpy().dtype == np.float32


def test_the_map_is_grad_cam(used, model):
    maps_of = Maps(model)
    assert last_maps(maps_of.attention.cortex, 28) == "backbone.bn2"
    scan = read_scan(next(f for f in files_of([used.scans]) if f.name.startswith("phantom-ultrasound-1")), 28)
    batch = torch.from_numpy(scan.copy())[None].permute(0, 3, 1, 2) / 255
    backbone = maps_of.attention.cortex.backbone
    with torch.enable_grad():
        maps = backbone.bn2(backbone.conv2(backbone.bn1(backbone.conv1((batch - 0.5) / 0.5)).relu()))
        maps.retain_grad()
        maps_of.attention.cortex.classifier(maps.relu().mean((2, 3)))[0, 2].backward()
    heat = (maps.grad.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu().detach()
    heat = torch.nn.functional.interpolate(heat, (28, 28), mode="bilinear")[0, 0]
    expected = (heat / heat.max()).numpy() if heat.max() > 0 else heat.numpy()
    assert np.allclose(maps_of.of(scan, 2), expected, atol=1e-5)


def test_a_network_without_maps_is_not_explained(model, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tests.small_backbone.SmallBackbone.forward", lambda self, scans: scans.new_zeros(len(scans), 64)
    )
    with pytest.raises(ConfigError, match="no maps of features"):
        Explainer(model, tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"position": 2, "task": 1}, "is learning task 'task-2'"),
        ({"task": 0}, "has learned nothing yet"),
        ({"settings": {"cortex": {"norm": "layer"}}}, "settings that this version refuses"),
        ({"settings": {"method": "icarl"}}, "networks of method 'icarl' cannot be used by themselves"),
    ],
)
def test_what_cannot_be_used_is_refused(used, tmp_path, change, reason):
    former = load_checkpoint(folder_of(used.state, "tiny"))
    settings = {**former.settings, **change.get("settings", {})}
    save_checkpoint(folder_of(tmp_path, "tiny"), former.model_copy(update={**change, "settings": settings}), {})
    with pytest.raises(ConfigError, match=reason):
        of_experiment(tmp_path, "tiny")


def test_every_method_with_one_network_and_a_linear_classifier_can_be_used():
    plain = {name for name, method in METHODS.items() if method.plain}
    assert plain == {"braincl", "joint", "finetune", "ewc", "replay", "replay-webp", "mygo", "analytic"}


def test_a_task_that_is_only_added_changes_no_answer(used, tmp_path, model):
    folder = folder_of(used.state, "tiny")
    former = load_checkpoint(folder)
    fewer = former.model_copy(update={"task": 2})
    classifier = {n: t[:6] if n.startswith("classifier.") else t for n, t in load_weights(folder, former).items()}
    save_checkpoint(folder_of(tmp_path, "tiny"), fewer, classifier, load_moments(folder, former))
    early = of_experiment(tmp_path, "tiny")
    assert [c.key for c in early.classes] == [c.key for c in model.classes[:6]]


def test_an_experiment_is_found_by_name_and_a_folder_by_path(used, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert opened("tiny", used.state).experiment == opened(str(used.folder), tmp_path).experiment == "tiny"
    assert opened(str(used.folder / "model.json"), tmp_path).operating == opened("tiny", used.state).operating
    (tmp_path / "tiny").mkdir()
    assert opened("tiny", used.state).experiment == "tiny"
    with pytest.raises(ConfigError, match="no experiment 'nobody'"):
        opened("nobody", used.state)
    as_if_learned(tiny(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="has learned nothing yet"):
        opened("tiny", tmp_path / "empty")
