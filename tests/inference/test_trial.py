"""A scan that is tried: the answer that `predict` gives, the nearest memory, and nothing written."""

import io
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cdist
from streamlit.testing.v1 import AppTest

from apps.trial.launch import ENTRY, command
from braincl_med.cortex.cortex import Cortex, extract_features
from braincl_med.foundation.errors import VaultError
from braincl_med.inference.opening import opened
from braincl_med.inference.predict import predict
from braincl_med.inference.trial import Trial
from braincl_med.scans.reading import read_content, read_scan
from braincl_med.scans.refusals import ScanRefusedError
from braincl_med.streams.tasks import Registry
from braincl_med.vault.vault import Vault
from tests.scans.files import dicom, grey


@pytest.fixture(scope="module")
def trial(used):
    return Trial(opened("tiny", used.state), used.state / "site-0")


def scans(used):
    return sorted(path for path in used.scans.glob("phantom*.png"))[::5]


def test_the_answer_is_that_of_predict_and_the_nearest_memory_that_of_another_library(used, trial):
    model = opened("tiny", used.state)
    vault = Vault(used.state / "site-0" / "tiny")
    memories = [vault.recall(task) for task in range(len(model.registry.tasks))]
    images, labels = (np.concatenate([getattr(part, what) for part in memories]) for what in ("images", "labels"))
    cortex = Cortex.of(model.weights, model.cortex)
    whitening = model.familiarity.whitening.numpy()
    features = np.asarray(extract_features(cortex, images), np.float64)
    for row in predict(model, scans(used), batch=1):
        tried = trial.of(row.file.read_bytes())
        assert tried.answer == row.answer
        assert np.array_equal(tried.scan, read_scan(row.file, model.size, model.fit))
        seen = np.asarray(extract_features(cortex, tried.scan[None]), np.float64)
        at = cdist(seen, features, "mahalanobis", VI=whitening @ whitening.T)[0].argmin()
        assert np.array_equal(tried.nearest.recall, images[at])
        assert tried.nearest.number == labels[at]
        assert 0 <= tried.nearest.familiar <= 1
        assert tried.overlay.shape[2] == 3


def test_a_memory_is_its_own_nearest_and_a_stranger_less_familiar(trial):
    memory = trial.memories.scans.images[3]
    noise = np.random.default_rng(0).integers(0, 256, memory.shape, np.uint8)
    tried = {}
    for name, pixels in (("memory", memory), ("noise", noise)):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        tried[name] = trial.of(buffer.getvalue())
    assert np.array_equal(tried["memory"].nearest.recall, memory)
    assert tried["noise"].nearest.familiar < tried["memory"].nearest.familiar


def test_without_a_vault_there_is_no_nearest_memory_and_another_experiments_is_refused(used):
    model = opened("tiny", used.state)
    assert Trial(model).of(scans(used)[0].read_bytes()).nearest is None
    with pytest.raises(VaultError, match="holds no memories of 'tiny'"):
        Trial(model, used.scans)
    with pytest.raises(VaultError, match="other classes"):
        Trial(replace(model, registry=Registry(tasks=model.registry.tasks[::-1])), used.state / "site-0" / "tiny")


def bomb():
    """A PNG of some kilobytes that promises 400 million pixels."""
    header = b"IHDR" + (20_000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    body = b"IDAT" + zlib.compress(bytes(1_000_000))
    chunks = [
        (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") for chunk in (header, body)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


HOSTILE = {"bomb": bomb(), "empty": b"", "text": b"no picture", "pdf": b"%PDF-1.7 /JavaScript", "zip": b"PK\x03\x04"}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_scan_is_refused(trial, name):
    with pytest.raises(ScanRefusedError):
        trial.of(HOSTILE[name])


def test_content_is_read_as_the_file_is(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(grey(), PatientName="Somebody", PatientID="MRN-1"))
    assert np.array_equal(read_content(path.read_bytes(), 28), read_scan(path, 28))


@pytest.fixture
def page(used, monkeypatch):
    line = command("tiny", used.state, used.state / "site-0", {})
    monkeypatch.setattr(sys, "argv", [str(ENTRY), *line[line.index("--") + 1 :]])
    return AppTest.from_file(str(ENTRY), default_timeout=60)


def texts(app):
    return " ".join(str(element.value) for kind in ("success", "warning", "error") for element in getattr(app, kind))


def test_the_page_answers_a_scan_and_says_why_it_refuses_a_file(used, page):
    before = {path for path in Path(used.state).rglob("*")}
    app = page.run()
    assert not app.exception
    assert "not a medical device" in texts(app)
    app.file_uploader[0].upload("scan.png", scans(used)[0].read_bytes(), "image/png").run()
    assert not app.exception
    assert app.success or len(app.warning) > 1
    assert any("more familiar than" in text.value for text in app.markdown)
    app.file_uploader[0].upload("scan.png", b"no picture", "image/png").run()
    assert "refused" in texts(app)
    assert not app.exception
    assert {path for path in Path(used.state).rglob("*")} == before


def test_uploads_are_limited_and_served_to_this_machine_alone():
    line = command("x", Path("/state"), None, {"--vault-key": "file:/k"}, 8600)
    assert "--server.maxUploadSize=64" in line
    assert "--server.address=127.0.0.1" in line
    assert line[line.index("--") :] == ["--", "--network=x", "--state=/state", "--vault-key=file:/k"]
