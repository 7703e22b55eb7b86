"""Names of patients, planted wherever files have room for them, are nowhere in what a run writes and sends."""

import logging

import numpy as np
import pytest
from PIL import Image

from benchmarks.own_scans import IDENTIFIER, as_dicom, as_jpeg, as_png
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.extend import add_task
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.foundation.logs import keep_in_file
from braincl_med.records.store import RunStore
from braincl_med.records.summary import as_json, summarise
from braincl_med.records.table import table
from tests.federation.experiments import tiny


@pytest.fixture
def data(tmp_path):
    """Own scans of two hospitals, by patients who are named in paths, tags, EXIF and the manifest."""
    folder = tmp_path / "data"
    random = np.random.default_rng(0)
    rows = ["path,label,patient"]
    for number in range(36):
        label, patient = ("melanoma", "naevus")[number % 2], f"{number // 4}"
        pixels = random.integers(0, 90, (32, 32, 3), np.uint8)
        pixels[:16] += 150 * (number % 2)
        picture = Image.fromarray(pixels)
        if number < 12:
            as_dicom(folder / "site-0" / "own", label, number, patient, picture)
        elif number < 24:
            as_png(folder / "site-0" / "own", label, number, patient, picture)
        else:
            path = as_jpeg(folder / "site-1" / "own", label, number, patient, picture)
            rows.append(f"{path.relative_to(folder / 'site-1' / 'own')},{label},{IDENTIFIER}-{patient}")
    rows.append(f"{IDENTIFIER}.png,naevus,{IDENTIFIER}")  # no such file
    (folder / "site-1" / "own" / "manifest.csv").write_text("\n".join(rows))
    (folder / "site-0" / "own" / "naevus" / f"{IDENTIFIER}.dcm").write_bytes(
        b"\0" * 128 + b"DICM" + IDENTIFIER.encode()
    )
    (folder / "site-0" / "own" / "naevus" / f"{IDENTIFIER}.txt").write_text(IDENTIFIER)
    return folder


def test_no_identifier_is_written_sent_or_said(tmp_path, data, caplog, capfd):
    state = tmp_path / "state"
    planted = [path for path in data.rglob("*") if path.is_file()]
    assert sum(IDENTIFIER.encode() in path.read_bytes() for path in planted) >= 12 + 12 + 3
    assert all(IDENTIFIER in path.as_posix() for path in planted if path.name != "manifest.csv")
    run_locally(tiny(state, data_root=str(data)))
    add_task(state, "tiny", "skin", ["own/melanoma", "own/naevus"], data)
    sent = []

    def listening(exchange):
        def call(order):
            reports = exchange(order)
            sent.extend([order.text(), *(report.text() for report in reports)])
            sent.extend(name for report in reports for name in report.weights)
            return reports

        return call

    keep_in_file(state, "tiny")
    with caplog.at_level(logging.DEBUG):
        refusing = tiny(state, data_root=str(data))
        with pytest.raises(Exception, match="are no scans to learn from"):
            Coordinator(refusing, listening(local_exchange(local_hospitals(refusing)))).run()
        skipping = tiny(state, data_root=str(data), stream_bad_scans="skip", resume="true")
        Coordinator(skipping, listening(local_exchange(local_hospitals(skipping)))).run()
    summary = summarise(RunStore(state), "tiny")
    said = [caplog.text, *capfd.readouterr(), table([summary]), str(as_json(summary))]
    assert '"naevus"' in "".join(sent)
    for text in (*sent, *said):
        assert IDENTIFIER not in text
    written = [path for path in state.rglob("*") if path.is_file()]
    assert any(path.name == "scans.sqlite" for path in written)
    for path in written:
        assert IDENTIFIER.encode() not in path.read_bytes(), path
        assert IDENTIFIER not in path.as_posix()
