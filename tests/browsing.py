"""A real browser and a real server, for tests that walk through pages as their readers do."""

import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
MISSING = not CHROMIUM.exists() or not DRIVER.exists()
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
PROBE = re.compile(r"/_stcore/(health|host-config) - Failed to load resource: .* 404 ")
"""By these two Streamlit finds, of a page that is opened by its own address, below which path it is served."""
PATIENCE_SECONDS = 40


@contextmanager
def browsing(profile: Path, downloads: Path) -> Iterator[webdriver.Chrome]:
    """A Chromium without a window, whose profile and downloads lie in these folders."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def serving(command: Callable[[int], list[str]], log: Path) -> Iterator[str]:
    """The address at which a command, given a free port, serves pages until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as told:
        server = subprocess.Popen(command(port), stdout=told, stderr=subprocess.STDOUT)
        at = f"http://127.0.0.1:{port}"
        try:
            for _ in range(480):
                assert server.poll() is None, log.read_text()
                try:
                    urllib.request.urlopen(f"{at}/_stcore/health", timeout=2)
                    break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.25)
            yield at
        finally:
            server.terminate()
            server.wait(20)


def wait_until_drawn(browser: webdriver.Chrome) -> None:
    """Until Streamlit's script has ended and every chart has its drawing."""
    WebDriverWait(browser, PATIENCE_SECONDS).until(
        lambda b: (
            b.find_elements(By.CSS_SELECTOR, '[data-testid="stApp"][data-test-script-state="notRunning"]')
            and b.find_elements(By.CSS_SELECTOR, "h1")
        )
    )
    WebDriverWait(browser, PATIENCE_SECONDS, ignored_exceptions=[StaleElementReferenceException]).until(
        lambda b: all(
            chart.find_elements(By.CSS_SELECTOR, "canvas, svg")
            for chart in b.find_elements(By.CSS_SELECTOR, '[data-testid="stVegaLiteChart"]')
            if chart.is_displayed()  # those in a closed tab wait until it is opened
        )
    )


def shown(browser: webdriver.Chrome, selector: str) -> WebElement:
    """The first element that a selector finds, waited for: a page fetches its widgets' code when it needs them."""
    found: WebElement = WebDriverWait(
        browser, PATIENCE_SECONDS, ignored_exceptions=[NoSuchElementException, StaleElementReferenceException]
    ).until(lambda b: b.find_element(By.CSS_SELECTOR, selector), f"'{selector}' is not on the page")
    return found


def page_text(browser: webdriver.Chrome) -> str:
    """All that the page shows beside its sidebar."""
    return browser.find_element(By.CSS_SELECTOR, '[data-testid="stMain"]').text


def wait_for(browser: webdriver.Chrome, text: str) -> None:
    """Until the page says something."""
    WebDriverWait(browser, PATIENCE_SECONDS, ignored_exceptions=[StaleElementReferenceException]).until(
        lambda b: text in page_text(b), f"'{text}' is not said"
    )


def errors_of(browser: webdriver.Chrome) -> list[str]:
    """What the browser logged as errors since it was asked last."""
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    return [message for message in severe if not PROBE.search(message)]
