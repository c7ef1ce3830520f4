"""The Phases tab on many and on long runs: list, first chart and zoom, in a real browser.

    python benchmarks/phases_tab.py [--runs 100] [--steps 10000] [--long 1000000]

Makes the runs itself (random walks under phasetrack's metric names; what they hold does not matter
here), starts a plain TensorBoard and drives headless Chromium. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
from _browser import chromium, tensorboard
from _timing import publish
from selenium import webdriver

from phasetrack import RunSettings, read_run, train
from phasetrack.phases.classifier import Thresholds
from phasetrack.phases.history import History
from phasetrack.phases.summary import summarise_again

FIGURE = "document.getElementById('figure')"
DRAWN = f"{FIGURE} && {FIGURE}.data"
GOALS = {"run list": 1.0, "first chart": 2.0, "zoom, refined": 0.2}  # seconds
BLOCK = 10_000  # lines made at once


def metrics() -> list[str]:
    """Every metric of a real run."""
    with tempfile.TemporaryDirectory() as folder:
        train(RunSettings(d=8, width=8, steps=2), out=folder, name="run")
        return list(read_run(Path(folder) / "run").history)


def write_run(
    folder: Path, names: list[str], steps: int, seed: int, *, flicker: bool = False
) -> None:
    """A history of a given length whose zeta* falls and whose loss too, with noise on everything.

    With `flicker` zeta* and the slope drift are noise about their thresholds all along, and nothing
    is labelled beforehand.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    (folder / "config.json").write_text(json.dumps({"thresholds": vars(Thresholds())}))
    labelled = History()
    with (folder / "history.jsonl").open("w") as file:
        for start in range(0, steps, BLOCK):
            at = np.arange(start, min(start + BLOCK, steps)) / steps
            columns = {name: np.abs(rng.standard_normal(len(at))) for name in names}
            columns["heaviness/zeta_star"] = np.exp(4 - 12 * at + 0.1 * columns["loss/train"])
            columns["loss/train"] = 1.4 * np.exp(-4 * np.maximum(at - 0.5, 0))
            columns["linearization/slope_drift"] = 0.001 + at
            if flicker:
                columns["heaviness/zeta_star"] = np.exp(0.7 * rng.standard_normal(len(at)))
                drift = 0.25 + 0.02 * rng.standard_normal(len(at))
                columns["linearization/slope_drift"] = drift
                columns["loss/train"] = np.ones(len(at))
            columns["phase/id"] = np.where(columns["heaviness/zeta_star"] < 0.5, 2.0, 1.0)
            for index, values in enumerate(zip(*columns.values(), strict=True)):
                row = dict(zip(columns, map(float, values), strict=True))
                file.write(json.dumps({"step": start + index} | row) + "\n")
                if (start + index) % max(1, steps // 1000) == 0:
                    labelled.append(start + index, row)
    if flicker:
        return
    summary = summarise_again(labelled, Thresholds(), steps=steps)
    (folder / "summary.json").write_text(json.dumps(summary))


def until(driver: webdriver.Chrome, expression: str, limit: float = 600) -> float:
    """Seconds until an expression in the page is true."""
    started = time.perf_counter()
    while not driver.execute_script(f"return Boolean({expression})"):
        if time.perf_counter() - started > limit:
            raise SystemExit(f"never true: {expression}")
        time.sleep(0.005)
    return time.perf_counter() - started


def ask(address: str, route: str, **options: object) -> float:
    """Seconds that the server takes for one answer."""
    query = urllib.parse.urlencode(options)
    started = time.perf_counter()
    with urllib.request.urlopen(f"{address}/data/plugin/phases/{route}?{query}") as answer:
        answer.read()
    return time.perf_counter() - started


# Zooms to a range and notes when the charts stand there, and when they have the server's points.
ZOOM = """
const [low, high] = arguments;
const figure = document.getElementById('figure');
const begun = performance.now();
window.zoom = {};
const look = () => {
  window.zoom.moved ??= performance.now() - begun;
  if (Math.min(...figure.data[0].x) < 0.9 * low) return;
  window.zoom.refined = performance.now() - begun;
  figure.removeListener('plotly_afterplot', look);
};
figure.on('plotly_afterplot', look);
Plotly.relayout(figure, {'xaxis.range[0]': low, 'xaxis.range[1]': high});
"""


def zooms(driver: webdriver.Chrome, steps: int, rounds: int) -> dict[str, float]:
    """Median seconds from a new range to the moved charts, and to those with the finer points."""
    seen: list[dict[str, float]] = []
    for number in range(rounds):
        driver.execute_script("document.getElementById('do-reset').click()")
        until(driver, f"Math.min(...{FIGURE}.data[0].x) === 0")
        time.sleep(0.5)  # as a person does, between two zooms
        low = steps * (0.1 + 0.05 * number)
        driver.execute_script(ZOOM, low, low + 0.4 * steps)
        until(driver, "window.zoom.refined")
        seen.append(driver.execute_script("return window.zoom"))
    return {
        f"zoom, {what}": statistics.median(zoom[what] for zoom in seen) / 1000 for what in seen[0]
    }


def measure(logdir: Path, name: str, steps: int) -> dict[str, float]:
    with tensorboard(logdir) as (_, address), chromium() as driver:
        first = ask(address, "runs")
        lists = [ask(address, "runs") for _ in range(5)]
        link = urllib.parse.quote(json.dumps({"runs": [name]}))
        driver.get("about:blank")
        started = time.perf_counter()
        driver.get(f"{address}/data/plugin_entry.html?name=phases&p.phases.view={link}")
        until(driver, "document.querySelector('#runs li')")
        listed = time.perf_counter() - started
        until(driver, DRAWN)
        drawn = time.perf_counter() - started
        return {
            "run list, first answer": first,
            "run list": statistics.median(lists),
            "page with its list": listed,
            "first chart": drawn,
            **zooms(driver, steps, 7),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--long", type=int, default=1_000_000, help="0 leaves it out")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/phases_tab.json"))
    asked = parser.parse_args()
    names, found = metrics(), {}
    with tempfile.TemporaryDirectory() as folder:
        many = Path(folder) / "many"
        for number in range(asked.runs):
            write_run(many / f"run-{number:03}", names, asked.steps, number)
        found[f"{asked.runs} runs of {asked.steps:,} steps"] = measure(many, "run-000", asked.steps)
        write_run(Path(folder) / "flicker" / "run", names, asked.steps, 0, flicker=True)
        found[f"{asked.steps:,} steps, labels flicker"] = measure(
            Path(folder) / "flicker", "run", asked.steps
        )
        if asked.long:
            write_run(Path(folder) / "long" / "run", names, asked.long, 0)
            found[f"{asked.long:,} steps"] = measure(Path(folder) / "long", "run", asked.long)
    rows = [
        {"case": case, "what": what, "s": seconds, "goal": GOALS.get(what, "")}
        for case, measured in found.items()
        for what, seconds in measured.items()
    ]
    publish(rows, asked.json, metrics=len(names))


if __name__ == "__main__":
    main()
