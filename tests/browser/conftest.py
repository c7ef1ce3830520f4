"""Real TensorBoard in real headless Chromium; missing browsers fail the tests, they are not skipped."""

import contextlib
import shutil
from pathlib import Path

import pytest
from _browser import chromium, tensorboard
from selenium.webdriver.support.ui import WebDriverWait

from phasetrack import RunSettings, train

PATIENCE = 60  # seconds until a page must have become what it should; no test measures time
# Screenshots of the last test run, for people to look at.
PICTURES = Path(__file__).parents[2] / "build" / "screenshots"


class Page:
    """A browser's window and what tests do with it."""

    def __init__(self, driver):
        self.driver = driver

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, script, *arguments):
        """The first true value of an expression in the page."""
        # what is not there yet is not true yet
        careful = f"return (() => {{ try {{ return ({script}) }} catch {{ return null }} }})()"
        waiting = WebDriverWait(self.driver, PATIENCE, poll_frequency=0.1)
        return waiting.until(lambda _: self.run(careful, *arguments), script)

    def open(self, address):
        self.driver.get("about:blank")
        self.driver.get(address)

    def open_tab(self, server, query=""):
        """The Phases tab, with its frame as the page that scripts run in."""
        self.open(f"{server}/{query}#phases")
        self.enter()
        self.until("document.querySelector('#runs li')")

    def enter(self):
        """Into the tab's frame, once it is there: TensorBoard makes it after the page has loaded."""
        self.driver.switch_to.default_content()
        self.until("document.querySelector('iframe')")
        self.driver.switch_to.frame(0)

    def picture(self, name):
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(PICTURES / f"{name}.png")

    def size(self, width, height):
        self.driver.set_window_size(width, height)

    def leave(self):
        """Go nowhere, after a look at what the page complained of."""
        errors = self.errors()
        self.driver.switch_to.default_content()
        self.driver.get("about:blank")
        assert errors == []

    def errors(self):
        """What the page's own scripts complained of since the last call."""
        entries = self.driver.get_log("browser")
        severe = [e["message"] for e in entries if e["level"] == "SEVERE"]
        # browsers ask every server for one; TensorBoard has none outside its own page
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
    """Starts TensorBoard on a log directory, until the test's end."""
    with contextlib.ExitStack() as stack:
        yield lambda logdir: stack.enter_context(tensorboard(logdir))
        page.leave()  # before its server goes


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Two real runs that go well, one after the other."""
    out = tmp_path_factory.mktemp("made")
    for seed, name in ((1, "first"), (2, "second")):
        train(RunSettings(d=32, width=64, seed=seed), out=out, name=name)
    return out


class Server(str):
    """An address, with its log directory."""


@pytest.fixture(scope="module")
def server(tmp_path_factory, made):
    """TensorBoard on a log directory of this module's own; `server.logdir` is the directory."""
    logdir = tmp_path_factory.mktemp("logs")
    shutil.copytree(made, logdir, dirs_exist_ok=True)
    with tensorboard(logdir) as (_, address):
        server = Server(address)
        server.logdir = logdir
        yield server
