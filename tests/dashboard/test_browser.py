"""A reader's walk through the dashboard: the real server, a real browser, every page."""

import base64
import csv
import io
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from braincl_med.records.store import RunStore
from tests.browsing import MISSING, browsing, errors_of, page_text, shown, wait_until_drawn
from tests.records.example_store import begin

PAGES = {
    "": "Can I use it?",
    "diagnosis": "A diagnosis",
    "sure": "How sure is it?",
    "unknown": "Unknown scans",
    "poor": "Poor images",
    "accuracy": "Accuracy as diseases are added",
    "fairness": "Fairness",
    "hospitals": "Hospitals",
    "privacy": "Privacy",
    "runs": "Runs",
    "memory": "Memory and network",
    "add": "Add a diagnosis",
}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(MISSING, reason="chromium or chromedriver is missing"),
]


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, downloads: Path) -> Iterator[webdriver.Chrome]:
    with browsing(tmp_path_factory.mktemp("browser"), downloads) as driver:
        yield driver


def keep_shot(browser: webdriver.Chrome, name: str) -> None:
    """A picture of the window in the folder that BRAINCL_SCREENSHOTS names, if it does."""
    shots = os.environ.get("BRAINCL_SCREENSHOTS")
    if shots:
        Path(shots).mkdir(parents=True, exist_ok=True)
        time.sleep(1.5)
        browser.save_screenshot(str(Path(shots) / f"{name}.png"))


def show_as(browser: webdriver.Chrome, **media: str) -> None:
    """Have pages drawn for a medium, or with a feature (`prefers_color_scheme`) that a reader's system may have."""
    features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items() if name != "medium"]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media.get("medium", ""), "features": features})


def brightness(browser: webdriver.Chrome, selector: str, what: str) -> float:
    """Mean of red, green and blue of an element's computed colour, 0 to 255."""
    code = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    numbers = re.findall(r"[\d.]+", browser.execute_script(code, selector, what))
    return sum(map(float, numbers[:3])) / 3


def sheets(browser: webdriver.Chrome) -> int:
    """On how many sheets of paper a page is printed."""
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"]
    return len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(printed)))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path or "ready")
def test_page_is_drawn_without_an_error(path: str, address: str, browser: webdriver.Chrome) -> None:
    browser.get_log("browser")
    browser.get(f"{address}/{path}")
    wait_until_drawn(browser)

    keep_shot(browser, path or "ready")
    assert errors_of(browser) == []
    assert len(page_text(browser).split()) > 40, "more than a title"
    assert not browser.find_elements(By.CSS_SELECTOR, '[data-testid="stException"]'), "the page shows an exception"
    assert [h.text for h in browser.find_elements(By.CSS_SELECTOR, "h1")] == [PAGES[path]]
    assert len(browser.find_elements(By.CSS_SELECTOR, '[data-testid="stSidebarNavLink"]')) == len(PAGES)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path or "ready")
def test_page_can_be_read_on_a_dark_and_a_narrow_screen(path: str, address: str, browser: webdriver.Chrome) -> None:
    wide = browser.get_window_size()
    try:
        show_as(browser, prefers_color_scheme="dark")
        browser.set_window_size(768, 1600)
        browser.get(f"{address}/{path}")
        wait_until_drawn(browser)
        keep_shot(browser, f"{path or 'ready'}-dark-768")
        assert brightness(browser, '[data-testid="stApp"]', "backgroundColor") < 60
        assert brightness(browser, "h1", "color") > 180
        overflow = "const m = document.querySelector('[data-testid=stMain]'); return m.scrollWidth - m.clientWidth"
        assert browser.execute_script(overflow) <= 0, "nothing lies beside the window"
        show_as(browser, medium="print", prefers_color_scheme="dark")
        drawn = "return getComputedStyle(document.querySelector('[data-testid=stApp]')).filter"
        assert browser.execute_script(drawn).startswith("invert(1)"), "a printer draws it dark on light"
    finally:
        show_as(browser)
        browser.set_window_size(wide["width"], wide["height"])


def test_a_printed_page_has_neither_sidebar_nor_buttons(address: str, browser: webdriver.Chrome) -> None:
    browser.get(f"{address}/runs?experiment=memories")
    wait_until_drawn(browser)
    parts = [f'[data-testid="{part}"]' for part in ("stSidebar", "stHeader", "stDownloadButton", "stDataFrame")]
    parts.append(".printed table")  # which a sheet has in the place of a canvas as wide as the window
    WebDriverWait(browser, 40).until(lambda b: all(b.find_elements(By.CSS_SELECTOR, part) for part in parts))
    try:
        before = [browser.find_element(By.CSS_SELECTOR, part).is_displayed() for part in parts]
        show_as(browser, medium="print")
        after = [browser.find_element(By.CSS_SELECTOR, part).is_displayed() for part in parts]
    finally:
        show_as(browser)
    assert before == [True, True, True, True, False]
    assert after == [False, False, False, False, True]
    assert sheets(browser) > 1, "all of the page is printed, not the window alone"
    browser.get(f"{address}/?experiment=memories")
    wait_until_drawn(browser)
    shown(browser, '[data-testid="stExpander"]')
    assert sheets(browser) == 1


def test_a_dark_page_is_printed_on_white(address: str, browser: webdriver.Chrome) -> None:
    try:
        show_as(browser, prefers_color_scheme="dark")
        browser.get(f"{address}/fairness?experiment=memories")
        wait_until_drawn(browser)
        show_as(browser, medium="print", prefers_color_scheme="dark")
        seen = np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("L"))
    finally:
        show_as(browser)
    assert np.median(seen) == 255
    assert (seen < 100).any(), "with something dark on it"


def test_walk_along_the_sidebar(address: str, browser: webdriver.Chrome) -> None:
    browser.get(address)
    wait_until_drawn(browser)
    for number, title in enumerate(PAGES.values()):
        browser.find_elements(By.CSS_SELECTOR, '[data-testid="stSidebarNavLink"]')[number].click()
        WebDriverWait(browser, 40, ignored_exceptions=[StaleElementReferenceException]).until(
            lambda b, title=title: [h.text for h in b.find_elements(By.CSS_SELECTOR, "h1")] == [title]
        )
        wait_until_drawn(browser)
        assert not browser.find_elements(By.CSS_SELECTOR, '[data-testid="stException"]'), title


def test_pages_ask_nobody_but_the_dashboard(store: RunStore, address: str, browser: webdriver.Chrome) -> None:
    picture = "![x](http://192.0.2.1/seen.png) <img src='http://192.0.2.1/seen.png'>"
    checks = [{"check": picture, "passed": False, "detail": picture}]
    store.record_audit(False, {"vaults": [{"vault": picture, "experiments": [picture], "checks": checks}]})
    begin(store, "hostile", data=picture)
    store.end("hostile", "failed", picture)
    browser.get_log("performance")
    for path in PAGES:
        browser.get(f"{address}/{path}")
        wait_until_drawn(browser)

    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}

    assert any(url.startswith(address) for url in asked)
    assert "192.0.2.1" in browser.find_element(By.CSS_SELECTOR, '[data-testid="stApp"]').text
    assert {
        url for url in asked if urlsplit(url).scheme in ("http", "https") and not url.startswith(f"{address}/")
    } == set()


def test_a_link_survives_reloading(address: str, browser: webdriver.Chrome) -> None:
    browser.get(f"{address}/?experiment=no-memory&sensitivity=80")
    wait_until_drawn(browser)
    browser.refresh()
    wait_until_drawn(browser)
    assert "experiment=no-memory" in browser.current_url
    assert "sensitivity=80" in browser.current_url
    assert "Not ready: " in page_text(browser)
    assert "no-memory" in [h.text for h in browser.find_elements(By.CSS_SELECTOR, "h3")]


def test_a_slider_moves_what_the_page_says(address: str, browser: webdriver.Chrome) -> None:
    browser.get(f"{address}/unknown?experiment=memories")
    wait_until_drawn(browser)
    handle = shown(browser, '[data-testid="stSlider"] input[type="range"]')
    before = page_text(browser)
    handle.send_keys(Keys.ARROW_RIGHT * 20)
    WebDriverWait(browser, 40, ignored_exceptions=[StaleElementReferenceException]).until(
        lambda b: page_text(b) != before
    )
    wait_until_drawn(browser)
    assert errors_of(browser) == []


def test_a_table_is_taken_along_as_csv(address: str, browser: webdriver.Chrome, downloads: Path) -> None:
    browser.get(f"{address}/runs?experiment=memories")
    wait_until_drawn(browser)
    shown(browser, '[data-testid="stDownloadButton"] button').click()
    file = downloads / "comparison.csv"
    WebDriverWait(browser, 40).until(lambda b: file.is_file() and file.stat().st_size)
    rows = list(csv.reader(file.read_text().splitlines()))
    assert "Weakest diagnosis" in rows[0] or "Weakest diagnosis" in [row[0] for row in rows]
