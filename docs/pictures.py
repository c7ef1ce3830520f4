"""Makes the README's pictures from real runs: `make pictures`."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from phasetrack import RunSettings, read_run, train
from phasetrack.plots import run_figure, save_figure

HERE = Path(__file__).parent
SIZE = "1280,1180"


def main() -> None:
    """Train two runs, draw the first with matplotlib, and photograph both in the Phases tab."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        train(RunSettings(d=64, seed=1), out=out, name="xor-d64")
        train(RunSettings(d=512), out=out, name="xor-d512")
        run = read_run(out / "xor-d512")
        save_figure(run_figure(run.history, run.summary, title=run.name), HERE / "run.png")
        photograph(out, HERE / "phases.png")


def photograph(logdir: Path, file: Path) -> None:
    """The Phases tab of a plain TensorBoard, as a PNG."""
    command = [sys.executable, "-P", "-m", "tensorboard.main", "--logdir", str(logdir)]
    server = subprocess.Popen(
        [*command, "--port", "0", "--host", "localhost"], stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    lines = (re.search(r"at (http://localhost:\d+)/", line) for line in server.stderr)
    address = next(match[1] for match in lines if match)
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for option in ("headless=new", "no-sandbox", "disable-gpu", f"window-size={SIZE}"):
        options.add_argument(f"--{option}")
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        driver.get(f"{address}/#phases")
        wait = WebDriverWait(driver, 60)
        wait.until(lambda d: d.execute_script("return document.querySelector('iframe')"))
        driver.switch_to.frame(0)
        wait.until(lambda d: d.execute_script("return document.querySelector('#figure .main-svg')"))
        wait.until(
            lambda d: d.execute_script("return !document.getElementById('message').textContent")
        )
        driver.save_screenshot(file)
    finally:
        driver.quit()
        server.terminate()
        server.wait()
        server.stderr.close()


if __name__ == "__main__":
    main()
