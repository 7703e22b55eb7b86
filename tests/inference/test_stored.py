import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from braincl_med.foundation.errors import BrainclError, VaultError
from braincl_med.foundation.files import canonical_json, sha256_of
from braincl_med.inference.digests import SUMS, check_sums, write_sums
from braincl_med.inference.network import Network
from braincl_med.inference.opening import of_experiment
from braincl_med.inference.stored import DESCRIPTION, WEIGHTS, read_model


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
        (lambda b: b.update(version=2), "has version 2, this program reads up to 1: update it"),
        (lambda b: b.update(format="other"), "describes no exported network"),
        (lambda b: b.update(more=1), "describes no exported network"),
        (lambda b: b.update(size="big"), "describes no exported network"),
        (lambda b: b.update(method="icarl"), "networks of method 'icarl'"),
        (lambda b: b["cortex"].update(network="resnet18"), "holds no network 'resnet18' of 9 classes"),
        (lambda b: b["cortex"].update(network="no-such-net"), "there is no backbone 'no-such-net'"),
        (lambda b: b["registry"]["tasks"].pop(), "holds no network 'small' of 6 classes"),
        (lambda b: b["operating"].update(temperature=0), "describes no exported network"),
        (lambda b: b["operating"].update(score="max-softmax"), "score is not the one that this network has"),
        (lambda b: b["operating"]["counts"].pop(), "is that of 8 classes, there are 9"),
        (lambda b: b["tensors"].pop("classifier.bias"), "have other names, types or shapes"),
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
