import csv
import io
import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from braincl_med.foundation.errors import BrainclError, VaultError
from braincl_med.foundation.files import canonical_json, sha256_of
from braincl_med.inference.answer import Verdict
from braincl_med.inference.digests import SUMS, check_sums, write_sums
from braincl_med.inference.explain import Explainer
from braincl_med.inference.network import Network
from braincl_med.inference.opening import of_experiment
from braincl_med.inference.predict import predict
from braincl_med.inference.stored import DESCRIPTION, WEIGHTS, read_model
from braincl_med.inference.table import NOT_FINITE, csv_lines, json_text


@pytest.fixture
def copy(used, tmp_path):
    return shutil.copytree(used.folder, tmp_path / "copy")


def resealed(folder, change):
    """Change the description as somebody would who knows how it is sealed."""
    path = folder / DESCRIPTION
    body = json.loads(path.read_bytes())["model"]
    change(body)
    path.write_bytes(canonical_json({"model": body, "sha256": sha256_of(canonical_json(body))}))
    write_sums(folder)


def retold(folder, change):
    """Change the weights and all that names them."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    digest = sha256_of((folder / WEIGHTS).read_bytes())
    shapes = {n: [str(t.dtype).removeprefix("torch."), list(t.shape)] for n, t in tensors.items()}
    resealed(folder, lambda body: body.update(weights=digest, tensors=shapes))


def test_what_was_written_answers_as_the_experiment_does(used):
    stored, former = read_model(used.folder), of_experiment(used.state, "tiny")
    assert stored.registry == former.registry
    assert stored.operating == former.operating
    scans = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3)).astype(np.uint8))
    for one, other in zip(Network.of(stored)(scans), Network.of(former)(scans), strict=True):
        assert torch.equal(one, other)
    assert check_sums(used.folder) == used.done.digest


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "model.json", "model.onnx", "card.md", "bundle/models/model.json"]
)
def test_a_file_with_one_bit_changed_is_refused_by_name(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(VaultError, match=f"'{name}' was changed or damaged"):
        read_model(copy)


def test_a_missing_or_added_file_is_refused_by_name(copy):
    (copy / "extra.txt").touch()
    with pytest.raises(VaultError, match=r"'extra.txt' does not belong to this folder"):
        read_model(copy)
    (copy / "extra.txt").unlink()
    (copy / "card.html").unlink()
    with pytest.raises(VaultError, match=r"'card.html' is missing"):
        read_model(copy)


@pytest.mark.parametrize(
    "content", [None, b"", b"not sums\n", b"0" * 64 + b"  ../../etc/passwd\n", b"\xff\xfe", b"x" * (1 << 21)]
)
def test_digests_that_are_none_are_refused(copy, content):
    (copy / SUMS).unlink()
    if content is not None:
        (copy / SUMS).write_bytes(content)
    with pytest.raises(VaultError):
        read_model(copy)


def test_a_file_that_is_named_twice_is_refused(copy):
    lines = (copy / SUMS).read_text()
    (copy / SUMS).write_text(f"{'0' * 64}  card.md\n{lines}")
    with pytest.raises(VaultError, match=r"it names 'card\.md' twice"):
        read_model(copy)


@pytest.mark.parametrize("name", [SUMS, DESCRIPTION, WEIGHTS, "card.md", "more"])
@pytest.mark.parametrize("kind", ["pipe", "endless", "same", "dangling"])
def test_only_regular_files_of_the_folder_count(copy, tmp_path, name, kind):
    """Nobody waits for a pipe, reads without end, or reads what lies outside."""
    former = copy / name
    if former.exists():
        former.rename(tmp_path / "same")
    if kind == "pipe":
        os.mkfifo(former)
    else:
        former.symlink_to({"endless": "/dev/zero", "same": tmp_path / "same", "dangling": "/nowhere"}[kind])
    with pytest.raises(VaultError, match=f"'{name}' is no file but a link, a pipe or a device"):
        read_model(copy)


@pytest.mark.parametrize("target", ["bundle", "/etc"])
def test_a_linked_folder_is_refused(copy, tmp_path, target):
    if target == "bundle":
        (copy / "bundle").rename(tmp_path / "bundle")
        (copy / "bundle").symlink_to(tmp_path / "bundle")
    else:
        (copy / "more").symlink_to(target)
    with pytest.raises(VaultError, match="is no file but a link"):
        read_model(copy)


@pytest.mark.parametrize("name", [SUMS, DESCRIPTION, WEIGHTS, "card.md"])
def test_a_file_that_is_too_long_is_not_read(copy, name):
    os.truncate(copy / name, 1 << 40)
    with pytest.raises(VaultError, match=f"'{name}' has 1,099,511,627,776 bytes, that of an exported"):
        read_model(copy)


@pytest.mark.parametrize(
    ("change", "explained"),
    [
        (lambda t: t["classifier.weight"].fill_(3e38), False),
        (lambda t: t["familiarity.whitening"].fill_(1e200), False),
        (lambda t: t["backbone.bn2.running_var"].fill_(-5), False),
        (lambda t: None, True),
    ],
)
def test_numbers_that_are_not_finite_are_no_answer_and_valid_json(used, copy, tmp_path, change, explained):
    retold(copy, change)
    model = read_model(copy)
    file = next(used.scans.glob("phantom-xray*"))
    (row,) = rows = list(predict(model, [file], explainer=Explainer(model, tmp_path / "why")))
    assert bool(row.overlay) == explained
    (told,) = json.loads(json_text(model, rows))["scans"]
    (line,) = csv.DictReader(io.StringIO(b"".join(csv_lines(model, rows)).decode()))
    if not explained:
        assert row.verdict is Verdict.UNKNOWN
        assert (told["class"], told["probability"], told["score"], told["top"]) == (None, None, None, [])
        assert told["reason"] == line["reason"] == NOT_FINITE
        assert line["class"] == line["probability"] == line["score"] == ""


def test_the_weights_of_another_network_are_refused(used, copy):
    def other(tensors):
        tensors["classifier.bias"] += 1

    swapped = shutil.copytree(used.folder, copy.parent / "swapped")
    retold(swapped, other)
    assert read_model(swapped)
    shutil.copy(swapped / WEIGHTS, copy / WEIGHTS)
    write_sums(copy)
    with pytest.raises(VaultError, match=r"is not the one that 'model\.json' names"):
        read_model(copy)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: b.update(version=3), "has version 3, this program reads up to 2: update it"),
        (lambda b: b.update(format="other"), "describes no exported network"),
        (lambda b: b.update(more=1), "describes no exported network"),
        (lambda b: b.update(size="big"), "describes no exported network"),
        (lambda b: b.update(method="icarl"), "networks of method 'icarl'"),
        (lambda b: b["cortex"].update(network="resnet18"), "holds no network 'resnet18' of 9 classes"),
        (lambda b: b["cortex"].update(network="no-such-net"), "there is no backbone 'no-such-net'"),
        (lambda b: b["registry"]["tasks"].pop(), "holds no network 'small' of 6 classes"),
        (lambda b: b["operating"].update(temperature=0), "describes no exported network"),
        (lambda b: b["operating"].update(score="max-softmax", threshold=0.5, sure=None), "score is not the one"),
        (lambda b: b["operating"].update(score="max-softmax", threshold=0.5), "describes no exported network"),
        (lambda b: b["operating"].update(sure=1.5), "describes no exported network"),
        (lambda b: b["operating"]["counts"].pop(), "is that of 8 classes, there are 9"),
        (lambda b: b["tensors"].pop("classifier.bias"), "holds no network 'small' of 9 classes"),
        (lambda b: b["tensors"].update({"classifier.bias": ["float32", [9.0]]}), "describes no exported network"),
        (lambda b: b.update(version=True), "describes no exported network"),
        (lambda b: b.update(version=0), "describes no exported network"),
        (lambda b: b.update(size=28.0), "describes no exported network"),
        (lambda b: b.update(size=True), "describes no exported network"),
        (lambda b: b["cortex"].update(input="28"), "describes no exported network"),
        (lambda b: b["operating"].update(temperature=1e-300), "describes no exported network"),
        (lambda b: b["operating"].update(threshold=1e308), "describes no exported network"),
        (lambda b: b["registry"]["tasks"][0]["classes"][0].update(label="x"), "describes no exported network"),
        (lambda b: b["registry"]["tasks"][0]["classes"][0].update(dataset="own"), "describes no exported network"),
        (lambda b: b.update(remembered=[0]), "or of another number of classes than 1"),
        (lambda b: b.update(remembered=[*range(8), 9]), "names remembered classes that the network has not"),
        (lambda b: b.update(remembered=[0, 0, *range(7)]), "names remembered classes that the network has not"),
    ],
)
def test_a_description_of_something_else_is_refused(copy, change, reason):
    resealed(copy, change)
    with pytest.raises(BrainclError, match=reason):
        read_model(copy)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop("classifier.bias"), "holds no network 'small' of 9 classes"),
        (lambda t: t.update(extra=torch.zeros(1)), "holds no network"),
        (
            lambda t: t["classifier.bias"].fill_(float("nan")),
            "'classifier.bias' of 'weights.safetensors' holds numbers",
        ),
        (lambda t: t.update({"classifier.bias": torch.zeros(9).double()}), "holds no network"),
        (lambda t: t.pop("familiarity.centres"), "holds no memory of this network's features"),
        (lambda t: t.update({"familiarity.centres": torch.zeros(9, 3).double()}), "memory of other features"),
        (lambda t: t.update({"familiarity.whitening": torch.zeros(64, 64)}), "holds no memory"),
        (lambda t: t.update({"familiarity.centres": torch.zeros(1, 64).double()}), "number of classes than 9"),
        (lambda t: t.update({"familiarity.centres": torch.zeros(10, 64).double()}), "another number of classes"),
    ],
)
def test_tensors_of_something_else_are_refused(copy, change, reason):
    retold(copy, change)
    with pytest.raises(VaultError, match=reason):
        read_model(copy)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"model": 3, "sha256": ""}', b"[" * 100000, b"\xff"])
def test_a_description_that_is_no_json_of_ours_is_refused(copy, content):
    (copy / DESCRIPTION).write_bytes(content)
    write_sums(copy)
    with pytest.raises(VaultError, match=r"'model.json' (describes no exported network|was changed)"):
        read_model(copy)


def test_another_file_or_an_empty_folder_is_no_network(copy, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, reason in (
        (copy / "card.md", "is no exported network"),
        (tmp_path / "empty", "there is no 'SHA256SUMS'"),
    ):
        with pytest.raises(VaultError, match=reason):
            read_model(path)


def test_a_model_of_the_former_version_sets_aside_by_its_one_score(copy):
    resealed(copy, lambda b: (b.update(version=1), b["operating"].pop("sure")))
    former = read_model(copy)
    assert former.operating.score == "familiarity"
    assert former.operating.sure is None
