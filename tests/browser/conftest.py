"""Run TensorBoard and headless Chromium; without Chromium the tests fail instead of being skipped."""

import contextlib
import shutil
from pathlib import Path

import pytest
from _browser import chromium, tensorboard
from selenium.webdriver.support.ui import WebDriverWait

from phasetrack import RunSettings, train

PATIENCE = 60  # seconds until a condition must hold in the page; no test measures time
# Screenshots of the last test run, for people.
PICTURES = Path(__file__).parents[2] / "build" / "screenshots"


class Page:
    """A browser's window, with the actions of the tests."""

    def __init__(self, driver):
        self.driver = driver

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, script, *arguments):
        """Wait until an expression in the page is true, and return its value."""
        # an expression about a missing element is not true yet
        careful = f"return (() => {{ try {{ return ({script}) }} catch {{ return null }} }})()"
        waiting = WebDriverWait(self.driver, PATIENCE, poll_frequency=0.1)
        return waiting.until(lambda _: self.run(careful, *arguments), script)

    def open(self, address):
        self.driver.get("about:blank")
        self.driver.get(address)

    def open_tab(self, server, query=""):
        """Open the Phases tab, and run later scripts in its frame."""
        self.open(f"{server}/{query}#phases")
        self.enter()
        self.until("document.querySelector('#runs li')")

    def enter(self):
        """Enter the tab's frame, which TensorBoard makes after the page has loaded."""
        self.driver.switch_to.default_content()
        self.until("document.querySelector('iframe')")
        self.driver.switch_to.frame(0)

    def picture(self, name):
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(PICTURES / f"{name}.png")

    def size(self, width, height):
        self.driver.set_window_size(width, height)

    def leave(self):
        """Open an empty page, after checking that the old one logged no errors."""
        errors = self.errors()
        self.driver.switch_to.default_content()
        self.driver.get("about:blank")
        assert errors == []

    def errors(self):
        """Return the errors that the page logged since the last call."""
        entries = self.driver.get_log("browser")
        severe = [e["message"] for e in entries if e["level"] == "SEVERE"]
        # browsers request a favicon from every server; TensorBoard has it only on its own page
        return [message for message in severe if "favicon.ico" not in message]


@pytest.fixture(scope="session")
def driver():
    with chromium() as driver:
        yield driver


@pytest.fixture
def page(driver, tmp_path):
    page = Page(driver)
    page.size(1280, 1000)
    page.downloads = tmp_path / "downloads"
    page.downloads.mkdir()
    behaviour = {"behavior": "allow", "downloadPath": str(page.downloads)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    page.errors()
    yield page
    page.leave()


@pytest.fixture
def serve(page):
    """Start TensorBoard on a log directory until the end of the test."""
    with contextlib.ExitStack() as stack:
        yield lambda logdir: stack.enter_context(tensorboard(logdir))
        page.leave()  # before the server stops


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Train two runs that succeed."""
    out = tmp_path_factory.mktemp("made")
    for seed, name in ((1, "first"), (2, "second")):
        train(RunSettings(d=32, width=64, seed=seed), out=out, name=name)
    return out


class Server(str):
    """An address with its log directory."""


@pytest.fixture(scope="module")
def server(tmp_path_factory, made):
    """Start TensorBoard on a log directory for this module; `server.logdir` is the directory."""
    logdir = tmp_path_factory.mktemp("logs")
    shutil.copytree(made, logdir, dirs_exist_ok=True)
    with tensorboard(logdir) as (_, address):
        server = Server(address)
        server.logdir = logdir
        yield server
