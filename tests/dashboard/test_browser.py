"""A reader's walk through the dashboard: the real server, a real browser, every page."""

import base64
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from braincl_med.records.store import RunStore
from tests.records.example_store import begin

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1400,2400",
)
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

PROBE = re.compile(r"/_stcore/(health|host-config) - Failed to load resource: .* 404 ")
"""By these two Streamlit finds, of a page that is opened by its own address, below which path it is served."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists() or not DRIVER.exists(), reason="chromium or chromedriver is missing"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


def wait_until_drawn(browser: webdriver.Chrome) -> None:
    """Until Streamlit's script has ended and every chart has its drawing."""
    WebDriverWait(browser, 40).until(
        lambda b: (
            b.find_elements(By.CSS_SELECTOR, '[data-testid="stApp"][data-test-script-state="notRunning"]')
            and b.find_elements(By.CSS_SELECTOR, "h1")
        )
    )
    WebDriverWait(browser, 40, ignored_exceptions=[StaleElementReferenceException]).until(
        lambda b: all(
            chart.find_elements(By.CSS_SELECTOR, "canvas, svg")
            for chart in b.find_elements(By.CSS_SELECTOR, '[data-testid="stVegaLiteChart"]')
            if chart.is_displayed()  # those in a closed tab wait until it is opened
        )
    )


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


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path or "ready")
def test_page_is_drawn_without_an_error(path: str, address: str, browser: webdriver.Chrome) -> None:
    browser.get_log("browser")
    browser.get(f"{address}/{path}")
    wait_until_drawn(browser)

    keep_shot(browser, path or "ready")
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [message for message in severe if not PROBE.search(message)] == []
    content = browser.find_element(By.CSS_SELECTOR, '[data-testid="stMain"]').text
    assert len(content.split()) > 40, "more than a title"
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
    browser.get(f"{address}/runs")
    wait_until_drawn(browser)
    parts = ("stSidebar", "stHeader", "stDownloadButton")
    WebDriverWait(browser, 40).until(
        lambda b: all(b.find_elements(By.CSS_SELECTOR, f'[data-testid="{part}"]') for part in parts)
    )
    try:
        before = [browser.find_element(By.CSS_SELECTOR, f'[data-testid="{part}"]').is_displayed() for part in parts]
        show_as(browser, medium="print")
        after = [browser.find_element(By.CSS_SELECTOR, f'[data-testid="{part}"]').is_displayed() for part in parts]
    finally:
        show_as(browser)
    assert before == [True, True, True]
    assert after == [False, False, False]
    sheets = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", sheets)) > 1, "all of the page is printed, not the window alone"


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
    page = browser.find_element(By.CSS_SELECTOR, '[data-testid="stMain"]').text
    assert "Not ready: " in page
    assert "no-memory" in [h.text for h in browser.find_elements(By.CSS_SELECTOR, "h3")]
