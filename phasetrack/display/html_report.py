"""One HTML file with the charts of some runs: it opens without TensorBoard, and without a network."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from phasetrack.display.tensorboard.run_store import OpenRun
from phasetrack.errors import expected_error, printable

# Pixel columns that a report keeps of each curve: fine enough to zoom in some way (chosen here).
COLUMNS = 2000
# Saved steps of the neuron view in a report, evenly chosen (chosen here: some megabytes).
NEURON_STEPS = 25
# In the order in which they need each other.
SCRIPTS = (
    *("dom.js", "theme.js", "scales.js", "sources.js", "address.js", "loader.js", "figure.js"),
    *("runs.js", "thresholds.js", "neurons.js", "app.js"),
)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
{style}
</style>
<script>{plotly}</script>
</head>
<body>
<div id="phases">loading …</div>
<script type="application/json" id="data">{data}</script>
<script type="module">
{script}
const data = JSON.parse(document.getElementById("data").textContent);
const dark = () => window.matchMedia("(prefers-color-scheme: dark)").matches;
start(document.getElementById("phases"), new EmbeddedSource(data), {{ address: new Address(window), dark }});
</script>
</body>
</html>
"""


def write_report(runs: Sequence[Path], file: Path) -> None:
    """Write the charts, labels and neurons of runs into one HTML file.

    Args:
        runs: run directories; the first one is shown first. With more than one, all are overlaid.
        file: where to; an existing file is replaced.

    Raises:
        ExpectedError: if of a run's history nothing can be read, or the file cannot be written. A
            history that is damaged is shown up to there, and the page says so.
    """
    content = report([Path(run) for run in runs])
    try:
        file.write_text(content, encoding="utf-8")
    except OSError as error:
        raise expected_error(
            "file", "a file that can be written", f"{file} ({error.strerror})"
        ) from None


def report(runs: Sequence[Path]) -> str:
    """The page of `write_report` as text."""
    static = resources.files("phasetrack.display.tensorboard") / "static"
    plotly = resources.files("plotly") / "package_data" / "plotly.min.js"
    data = _data(runs)
    names = ", ".join(entry["id"] for entry in data["runs"])
    return PAGE.format(
        title=html.escape(f"{names} · phasetrack")[:300],
        style=(static / "style.css").read_text(encoding="utf-8"),
        plotly=plotly.read_text(encoding="utf-8").replace("</script", "<\\/script"),
        # no tag can begin within a JSON text whose every "<" is written as its number
        data=json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
        script="\n".join(_inlined((static / n).read_text(encoding="utf-8")) for n in SCRIPTS),
    )


def _inlined(module: str) -> str:
    """A module's text without imports and exports: all of them share the page's one scope."""
    without = re.sub(r"^import .*?;\n", "", module, flags=re.MULTILINE)
    return re.sub(r"^export ", "", without, flags=re.MULTILINE)


def _data(runs: Sequence[Path]) -> dict[str, Any]:
    data: dict[str, Any] = {"runs": [], "about": {}, "series": {}, "labels": {}, "neurons": {}}
    for name, folder in _named(runs).items():
        run = OpenRun(name, folder)
        series, entry = run.series(columns=COLUMNS), run.entry()
        if not series["count"]:
            got = printable(run.problem or "an empty one")
            raise expected_error("run", f"a history with records in {printable(folder)}", got)
        about, labels = run.about(), run.labels()
        about["neurons"] = _spread(about["neurons"], NEURON_STEPS)
        # times on this machine are of no use elsewhere, and the same runs make the same file
        entry |= {"phase": labels["phase"], "revision": "", "started": 0.0}
        entry["steps"] = series["last"] + 1 if entry["steps"] is None else entry["steps"]
        series["generation"] = labels["generation"] = 0
        data["runs"].append(entry)
        data["about"][name], data["series"][name], data["labels"][name] = about, series, labels
        data["neurons"][name] = {str(step): run.neurons(step) for step in about["neurons"]}
    return data


def _named(runs: Sequence[Path]) -> dict[str, Path]:
    """A different name for each run: its directory's, with its parents' where those are the same."""
    if not runs:
        raise expected_error("run", "one run directory or more", "none")
    names: dict[str, Path] = {}
    for run in runs:
        if not run.is_dir():
            got, mend = printable(run), "`phasetrack list` shows the runs"
            raise expected_error("run", "a run directory", got, mend)
        folder, depth = run.resolve(), 1
        shown = [printable(part) for part in folder.parts]
        while (name := "/".join(shown[-depth:])) in names and depth < len(shown):
            depth += 1
        names[name] = folder
    return names


def _spread(steps: list[int], count: int) -> list[int]:
    """At most `count` of the steps, evenly, first and last among them."""
    if len(steps) <= count:
        return steps
    last = len(steps) - 1
    return sorted({steps[round(i * last / (count - 1))] for i in range(count)})
