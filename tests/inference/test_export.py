import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from braincl_med.cortex.cortex import Cortex
from braincl_med.cortex.familiarity import Familiarity
from braincl_med.cortex.gaussians import moments
from braincl_med.evaluation.operating import OperatingPoint
from braincl_med.foundation.errors import BrainclError, ConfigError, RecordsError
from braincl_med.foundation.page import Page, Points, Table, html, markdown
from braincl_med.inference.answer import Verdict, answers
from braincl_med.inference.digests import check_sums
from braincl_med.inference.export.bundle import write_bundle
from braincl_med.inference.export.folder import export
from braincl_med.inference.export.onnx import LARGEST, OPSET, Compared, drawn, onnx_of
from braincl_med.inference.model import Model
from braincl_med.inference.network import Network
from braincl_med.inference.opening import of_experiment
from braincl_med.inference.predict import predict
from braincl_med.inference.reading import files_of
from braincl_med.inference.table import csv_lines
from braincl_med.records.store import RunStore
from braincl_med.records.summary import summarise
from braincl_med.settings.config import CortexConfig, StreamConfig
from braincl_med.streams.named import build_registry

ROOT = Path(__file__).resolve().parents[2]

SURE = {"batch": 0.118, "group": 0.186}
"""By normalisation, what about half of scans of noise lie below."""


def model(familiar=True, point=True, classes=9, threshold=-9.0, **cortex):
    """A network that has learned nothing, with statistics and a memory of noise."""
    config = CortexConfig(network="small", stem="imagenet").model_copy(update=cortex)
    torch.manual_seed(0)
    network = Cortex(classes, config)
    noise = torch.rand(40, 3, 28, 28)
    with torch.no_grad():
        network.train()(noise)
        features = network.eval().features(noise)
    told = moments(features, torch.arange(40) % classes, classes)
    score = "familiarity" if familiar else "max-softmax"
    operating = OperatingPoint(
        temperature=1.7, threshold=threshold if familiar else 0.2, share=0.05, set_aside=0.04,
        sure=SURE[config.norm] if familiar else None, score=score, source="validation",
        counts=(4,) * classes, hospitals=2,
    )  # fmt: skip
    registry = build_registry(StreamConfig(), 1)
    familiarity = Familiarity.of(told) if familiar else None
    weights = network.weights()
    return Model("x", "braincl", registry, config, 28, "pad", weights, familiarity, operating if point else None)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("familiar", [True, False])
def test_onnx_answers_as_pytorch_for_every_batch(norm, familiar):
    used = model(familiar, norm=norm, threshold=-17.4)
    content, compared = onnx_of(used)
    assert compared.scans == 100
    assert max(compared.logits, compared.score) <= LARGEST
    graph = onnx.load_from_string(content)
    onnx.checker.check_model(graph)
    assert [(o.domain, o.version) for o in graph.opset_import if not o.domain] == [("", OPSET)]
    session = onnxruntime.InferenceSession(content)
    for count in (1, 3, 130):
        scans = np.random.default_rng(count).integers(0, 256, (count, 28, 28, 3)).astype(np.uint8)
        logits, probabilities, score, aside = session.run(None, {"scans": scans})
        with torch.inference_mode():
            expected = [t.numpy() for t in Network.of(used)(torch.from_numpy(scans))]
        assert np.abs(logits - expected[0]).max() <= 1e-4
        assert np.abs(probabilities - expected[1]).max() <= 1e-4
        assert np.abs(score - expected[2]).max() <= 1e-4
        sure = torch.softmax(torch.from_numpy(logits).double(), 1).amax(1).numpy()
        unsure = sure < SURE[norm] if familiar else np.zeros(count, bool)
        assert np.array_equal(aside, (score < used.operating.threshold) | unsure)
        if familiar and count > 100:
            assert {*zip(score < -17.4, unsure, strict=True)} == {*product((True, False), repeat=2)}, "some by each"
        said = [answer.verdict for answer in answers(Network.of(used), used, scans)]
        assert [verdict is not Verdict.ANSWERED for verdict in said] == aside.tolist()


@pytest.mark.parametrize(("name", "value"), [("classifier.weight", 3e38), ("backbone.bn2.running_var", -5.0)])
def test_a_graph_sets_aside_what_is_no_number(name, value, monkeypatch):
    broken = model()
    broken.weights[name].fill_(value)
    monkeypatch.setattr("braincl_med.inference.export.onnx.compare", lambda *_: Compared(0, 0, 0, 0))
    session = onnxruntime.InferenceSession(onnx_of(broken)[0])
    scans = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3)).astype(np.uint8)
    assert session.run(["set_aside"], {"scans": scans})[0].all()
    monkeypatch.undo()
    with pytest.raises(BrainclError, match="differ from PyTorch's by nan"):
        onnx_of(broken)


def test_onnx_resamples_scans_as_the_network_does_and_needs_no_operating_point():
    content, compared = onnx_of(model(point=False, input=40))
    assert compared.logits <= LARGEST
    assert [o.name for o in onnxruntime.InferenceSession(content).get_outputs()] == [
        "logits",
        "probabilities",
        "score",
    ]


def test_a_graph_that_answers_otherwise_is_refused(monkeypatch):
    monkeypatch.setattr("braincl_med.inference.export.onnx.LARGEST", 0.0)
    with pytest.raises(BrainclError, match=r"differ from PyTorch's by .*nothing was exported"):
        onnx_of(model())


def test_the_scans_to_compare_on_are_many_and_different():
    scans = drawn(28)
    assert scans.shape == (100, 28, 28, 3)
    assert len(np.unique(scans.reshape(100, -1), axis=0)) == 100


def test_a_folder_has_all_of_it_without_a_trace_of_this_machine(used):
    names = {p.relative_to(used.folder).as_posix() for p in used.folder.rglob("*") if p.is_file()}
    assert names == {
        "SHA256SUMS", "card.html", "card.md", "model.json", "model.onnx", "weights.safetensors",
        "bundle/configs/inference.json", "bundle/configs/metadata.json", "bundle/models/SHA256SUMS",
        "bundle/models/model.json", "bundle/models/weights.safetensors",
    }  # fmt: skip
    for name in names:
        content = (used.folder / name).read_bytes()
        assert not [word for word in (b"site-packages", b"/tmp/", str(ROOT).encode(), b".py") if word in content], (
            name
        )
    told = json.loads((used.folder / "model.json").read_bytes())["model"]["export"]
    assert told["opset"] == OPSET
    assert 0 <= told["compared"]["logits"] <= LARGEST
    assert used.done.size == sum((used.folder / name).stat().st_size for name in names)


def test_two_exports_are_equal_and_the_digest_stands_for_all_files(used, tmp_path):
    (tmp_path / "again").mkdir()
    done = export(used.state, "tiny", tmp_path / "again")
    assert done.digest == used.done.digest == check_sums(tmp_path / "again")
    sums = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=used.folder, capture_output=True)
    assert sums.returncode == 0


def test_an_export_is_whole_or_not_there(used, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("braincl_med.inference.export.folder.write_sums", full)
    with pytest.raises(BrainclError, match="the disk is full"):
        export(used.state, "tiny", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_and_an_unknown_experiment_are_refused(used, tmp_path):
    with pytest.raises(ConfigError, match="'scans' is there already"):
        export(used.state, "tiny", used.scans)
    with pytest.raises(ConfigError, match="no experiment 'nobody'"):
        export(used.state, "nobody", tmp_path / "out")
    state = shutil.copytree(used.state, tmp_path / "state")
    RunStore(state).forget("tiny")
    with pytest.raises(RecordsError, match="no experiment 'tiny' in the run store"):
        export(state, "tiny", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_bundle_answers_a_folder_as_predict_does(used, tmp_path):
    """With the real ResNet-18, which a process of its own knows."""
    used_model = model(network="resnet18", stem="3x3-stride2")
    write_bundle(tmp_path / "bundle", used_model, "1.2.3")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "bundle/configs/inference.json"]
    command += ["--meta_file", "bundle/configs/metadata.json", "--bundle_root", "bundle"]
    command += ["--dataset_dir", str(used.scans), "--output_dir", "out"]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = b"".join(csv_lines(used_model, predict(used_model, files_of([used.scans]))))
    assert (tmp_path / "out" / "answers.csv").read_bytes() == expected


def test_the_bundles_metadata_has_the_fields_of_monais_specification(used):
    told = json.loads((used.folder / "bundle" / "configs" / "metadata.json").read_bytes())
    texts = {
        "version",
        "monai_version",
        "pytorch_version",
        "numpy_version",
        "task",
        "description",
        "authors",
        "copyright",
    }
    assert all(isinstance(told[key], str) and told[key] for key in texts)
    assert "braincl-med" in told["required_packages_version"]
    assert told["version"] in told["changelog"]
    for side in ("inputs", "outputs"):
        for tensor in told["network_data_format"][side].values():
            assert tensor.keys() == {
                "type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range",
                "is_patch_data", "channel_def",
            } - ({"modality"} if side == "outputs" else set())  # fmt: skip
    pred = told["network_data_format"]["outputs"]["pred"]
    assert list(pred["channel_def"].values()) == [c.name for c in of_experiment(used.state, "tiny").classes]


class Texts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.tags = [], set()

    def handle_data(self, data):
        self.found.append(data)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not {"src", "href", "onclick"} & {name for name, _ in attrs}


def test_the_card_names_every_class_and_what_was_not_measured(used):
    text = (used.folder / "card.md").read_text()
    page = Texts()
    page.feed((used.folder / "card.html").read_text())
    shown = " ".join(page.found)
    counts = RunStore(used.state).tally("tiny").confusion
    for number, spec in enumerate(of_experiment(used.state, "tiny").classes):
        (row,) = [line for line in text.splitlines() if f"| {spec.key} |" in line]
        right, scans = counts[number, number], counts[number].sum()
        assert f"| {scans} | {100 * right / scans:.1f} % (" in row
        assert spec.name in row
        assert spec.name in shown
    (told,) = [line for line in text.splitlines() if line.startswith("| familiarity |")]
    near = summarise(RunStore(used.state), "tiny").mean_near("familiarity")
    assert told.startswith(f"| familiarity | {100 * near[0]:.1f} % |")
    for words in (
        "no medical device", "SYNTHETIC", "Hospitals | 2, of which 2 evaluated it", "near unknown scans",
        "familiarity | ", "180 validation scans, of 9 of 9 classes at 2 hospitals", "bytes together",
        "federation-familiarity: shared", "no audit is recorded", "one run, of seed 1", "are set aside; of the known",
    ):  # fmt: skip
        assert words in text, words
        assert words.replace(" | ", "").replace("|", "") in shown.replace("\n", "") or "|" in words
    assert "script" not in page.tags


def test_the_card_of_a_network_that_nobody_measured_says_so(used, tmp_path):
    state = shutil.copytree(used.state, tmp_path / "state")
    store = RunStore(state)
    with store._connection() as db:
        for table in ("confusion", "score", "storage"):
            db.execute(f"DELETE FROM {table}")
    from braincl_med.inference.export.card import card

    bare = of_experiment(state, "tiny")
    text = markdown(card(state, Model(**{**vars(bare), "operating": None})))
    assert "Accuracy of synthetic smear: round nucleus, " in text
    assert "Calibration, and what a threshold would set aside." in text
    assert "What hospitals keep: not measured." in text
    assert "Unknown scans: not measured." in text
    assert "This network has no operating point" in text
    own = markdown(card(state, of_experiment(state, "own")))
    assert "This network carries no memory" in own
    assert "nothing of what hospitals remember" in own


def test_nothing_in_a_page_is_taken_for_markup():
    odd = "<b>*a*</b> | [x](y)\n# `z` \\"
    page = Page(odd, ((odd, (odd, Points((odd,)), Table((odd,), ((odd,),)))),))
    for line in markdown(page).splitlines():
        assert not re.search(r"(?<!\\)[<*`\[|]", line.removeprefix("| ").removesuffix(" |"))
    assert "<b>" not in html(page)
    parsed = Texts()
    parsed.feed(html(page))
    assert not parsed.tags & {"b", "a", "script"}


def test_the_example_of_the_documentation_runs_without_this_program(used, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "predict.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "braincl" not in code.replace("braincl-", "")
    file = next(f for f in files_of([used.scans]) if f.name.startswith("phantom-fundus"))
    shutil.copy(file, tmp_path / "scan.png")
    shutil.copy(used.folder / "model.onnx", tmp_path)
    (tmp_path / "example.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("example.py")
    (row,) = predict(of_experiment(used.state, "tiny"), [file])
    classes = of_experiment(used.state, "tiny").classes
    assert capsys.readouterr().out.split("\n")[0] == (
        f"{classes[row.answer.number].name} {row.answer.top[0][1]:.3f} unknown: for a person to read"
    )
