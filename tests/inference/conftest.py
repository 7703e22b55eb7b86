"""One small run, and its network exported once, for all tests of the network in use."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from braincl_med.federation.local import run_locally
from braincl_med.inference.export.folder import export
from braincl_med.streams import phantom
from tests.federation.experiments import tiny


def write_scans(folder, per_set=6):
    """Phantom scans as PNG files, of every kind, and one file that is no scan."""
    folder.mkdir(parents=True)
    for name in phantom.DATASETS:
        rows = np.linspace(0, len(phantom.labels(name, "test")) - 1, per_set).astype(int)
        images, labels = phantom.load(name, "test", 28, rows)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).save(folder / f"{name}-{label}-{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / ".hidden.png").write_bytes(b"not looked at")
    return folder


@pytest.fixture(scope="session")
def used(tmp_path_factory):
    """A state root with `tiny`, which shares its familiarity, and `own`; the former exported; and scans."""
    root = tmp_path_factory.mktemp("used")
    state = root / "state"
    run_locally(tiny(state, federation_familiarity="shared", stream_train_per_class=24, stream_test_per_class=20))
    run_locally(tiny(state, name="own", stream_task_count=1, sleep_rounds=1))
    done = export(state, "tiny", root / "exported")
    return SimpleNamespace(state=state, folder=root / "exported", done=done, scans=write_scans(root / "scans"))
