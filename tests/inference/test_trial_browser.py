"""Files of all kinds put into the page "Try a scan", in a real browser."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from apps.trial.launch import MOST_MEGABYTES, command
from braincl_med.federation.local import run_locally
from tests.browsing import (
    MISSING,
    PATIENCE_SECONDS,
    browsing,
    errors_of,
    page_text,
    serving,
    shown,
    wait_for,
    wait_until_drawn,
)
from tests.federation.experiments import tiny
from tests.inference.test_trial import HOSTILE
from tests.scans.files import dicom, grey

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(MISSING, reason="chromium or chromedriver is missing"),
]
REFUSED = {"bomb": "png", "text": "png", "pdf": "tif", "zip": "dcm"}
NAME, NUMBER = "Doe^Jane^of^Nowhere", "MRN-4711"


@pytest.fixture(scope="module")
def state(tmp_path_factory) -> Path:
    """A small run whose network the page's own process knows too."""
    root = tmp_path_factory.mktemp("trial") / "state"
    run_locally(tiny(root, cortex_network="test_resnet", cortex_stem="3x3", stream_task_count=1, sleep_rounds=1))
    return root


@pytest.fixture(scope="module")
def address(state, tmp_path_factory) -> Iterator[str]:
    log = state.parent / "server.log"
    with serving(lambda port: command("tiny", state, state / "site-0", {}, port), log) as at:
        yield at
        said = log.read_text()
        assert "Traceback" not in said
        assert NUMBER not in said


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    with browsing(tmp_path_factory.mktemp("browser"), tmp_path_factory.mktemp("downloads")) as driver:
        yield driver


def test_hostile_files_are_refused_a_scan_is_answered_and_no_identifier_is_shown(state, address, browser, tmp_path):
    def put(name: str, content: bytes, size: int | None = None) -> None:
        file = tmp_path / name
        file.write_bytes(content)
        os.truncate(file, size or len(content))
        wait_until_drawn(browser)
        shown(browser, "input[type=file]").send_keys(str(file))
        wait_for(browser, name)
        # The next file would take the place of one that is still on its way, which the browser logs as an error.
        WebDriverWait(browser, PATIENCE_SECONDS).until_not(
            lambda b: b.find_elements(By.CSS_SELECTOR, '[data-testid="stFileUploader"] [role="progressbar"]')
        )
        wait_until_drawn(browser)

    before = set(state.rglob("*"))
    browser.get(address)
    wait_until_drawn(browser)
    for kind, ending in REFUSED.items():
        put(f"{kind}.{ending}", HOSTILE[kind])
        wait_for(browser, "This file was refused")
        assert "more familiar than" not in page_text(browser)
    put("program.exe", b"MZ")
    wait_for(browser, "files are not allowed")
    put("large.png", b"", (MOST_MEGABYTES + 1) << 20)
    wait_for(browser, f"{MOST_MEGABYTES}.0MB or smaller")
    put("scan.dcm", dicom(grey(), PatientName=NAME, PatientID=NUMBER))
    wait_for(browser, "more familiar than")
    wait_until_drawn(browser)
    assert "This file was refused" not in page_text(browser)
    assert not any(told in browser.page_source for told in (NAME, "Nowhere", NUMBER))
    assert not browser.find_elements(By.CSS_SELECTOR, '[data-testid="stException"]')
    assert errors_of(browser) == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"}
    foreign = [url for url in urls if urlsplit(url).scheme in ("http", "https") and not url.startswith(address)]
    assert foreign == []
    assert set(state.rglob("*")) == before
