"""Makes the README's pictures from real runs: `make pictures`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from _browser import chromium, tensorboard
from selenium.webdriver.support.ui import WebDriverWait

from phasetrack import RunSettings, read_run, train
from phasetrack.display.plots import run_figure, save_figure

HERE = Path(__file__).parent
SIZE = (1280, 1340)


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
    with tensorboard(logdir) as (_, address), chromium(*SIZE) as driver:
        driver.get(f"{address}/#phases")
        wait = WebDriverWait(driver, 60)
        wait.until(lambda d: d.execute_script("return document.querySelector('iframe')"))
        driver.switch_to.frame(0)
        wait.until(lambda d: d.execute_script("return document.querySelector('[aria-busy=false]')"))
        driver.save_screenshot(file)


if __name__ == "__main__":
    main()
