"""A plain TensorBoard and a headless Chromium: for the tab's tests, its benchmark and its pictures."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

INSTALL = "apt-get install chromium chromium-driver"


def installed(name: str) -> str:
    """Path of a program; without it the caller fails, and says what to install."""
    path = shutil.which(name)
    assert path, f"this needs {name}; on Debian: {INSTALL}"
    return path


@contextlib.contextmanager
def tensorboard(logdir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A plain ``tensorboard --logdir``: the process and its address."""
    # -P: the entry point is found where phasetrack is installed, not in the current folder
    command = [sys.executable, "-P", "-m", "tensorboard.main", "--logdir", str(logdir)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--host", "localhost"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    try:
        found = (re.search(r"at (http://localhost:\d+)/", line) for line in process.stderr)
        address = next((match[1] for match in found if match), None)
        assert address, "TensorBoard ended before it served"
        yield process, address
    finally:
        end_server(process)
        process.stderr.close()


def end_server(server: subprocess.Popen[str]) -> None:
    """End a TensorBoard: it takes the first SIGTERM itself and can lose it, the second it cannot."""
    server.terminate()
    try:
        server.wait(timeout=30)
    except subprocess.TimeoutExpired:
        server.terminate()
        server.wait(timeout=30)


@contextlib.contextmanager
def chromium(width: int = 1280, height: int = 1000) -> Iterator[webdriver.Chrome]:
    """A headless browser whose console can be read."""
    options = webdriver.ChromeOptions()
    options.binary_location = installed("chromium")
    size = f"window-size={width},{height}"
    for option in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", size):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(installed("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()
