"""Real TensorBoard in real headless Chromium; missing browsers fail the tests, they are not skipped."""

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from phasetrack import RunSettings, train

PATIENCE = 60  # seconds until a page must have become what it should; no test measures time
INSTALL = "apt-get install chromium chromium-driver"
# Screenshots of the last test run, for people to look at.
PICTURES = Path(__file__).parents[2] / "build" / "screenshots"


def found(name):
    path = shutil.which(name)
    assert path, f"these tests need {name}; on Debian: {INSTALL}"
    return path


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
        self.until("document.querySelector('iframe')")
        self.driver.switch_to.frame(0)
        self.until("document.querySelector('#runs li')")

    def picture(self, name):
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(PICTURES / f"{name}.png")

    def size(self, width, height):
        self.driver.set_window_size(width, height)

    def errors(self):
        """What the page's own scripts complained of since the last call."""
        entries = self.driver.get_log("browser")
        severe = [e["message"] for e in entries if e["level"] == "SEVERE"]
        # browsers ask every server for one; TensorBoard has none outside its own page
        return [message for message in severe if "favicon.ico" not in message]


@pytest.fixture(scope="session")
def driver():
    options = webdriver.ChromeOptions()
    options.binary_location = found("chromium")
    for option in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(found("chromedriver")))
    yield driver
    driver.quit()


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
    assert page.errors() == []
    driver.switch_to.default_content()
    driver.get("about:blank")


@contextlib.contextmanager
def tensorboard(logdir):
    """A plain ``tensorboard --logdir``: the process and its address."""
    # -P: the entry point is found where phasetrack is installed, not in the current folder
    command = [sys.executable, "-P", "-m", "tensorboard.main", "--logdir", str(logdir)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--host", "localhost"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        found = (re.search(r"at (http://localhost:\d+)/", line) for line in process.stderr)
        yield process, next(match[1] for match in found if match)
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stderr.close()


@pytest.fixture
def serve():
    """Starts TensorBoard on a log directory, until the test's end."""
    with contextlib.ExitStack() as stack:
        yield lambda logdir: stack.enter_context(tensorboard(logdir))


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
