"""A reader's walk through the dashboard: the real server, a real browser, every page."""

import json
import os
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

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists() or not DRIVER.exists(), reason="chromium or chromedriver is missing"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
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


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path or "ready")
def test_page_is_drawn_without_an_error(path: str, address: str, browser: webdriver.Chrome) -> None:
    browser.get(f"{address}/{path}")
    wait_until_drawn(browser)

    shots = os.environ.get("BRAINCL_SCREENSHOTS")
    if shots:
        Path(shots).mkdir(parents=True, exist_ok=True)
        time.sleep(1.5)
        browser.save_screenshot(str(Path(shots) / f"{path or 'ready'}.png"))
    assert not browser.find_elements(By.CSS_SELECTOR, '[data-testid="stException"]'), "the page shows an exception"
    assert [h.text for h in browser.find_elements(By.CSS_SELECTOR, "h1")] == [PAGES[path]]
    assert len(browser.find_elements(By.CSS_SELECTOR, '[data-testid="stSidebarNavLink"]')) == len(PAGES)


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
