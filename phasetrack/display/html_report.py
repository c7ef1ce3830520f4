"""Write runs into one HTML file, which opens without a network: a head in words, then the charts."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from phasetrack.display.report_head import STYLE, Told, head
from phasetrack.display.style import RUN_COLOURS
from phasetrack.display.tensorboard.open_run import OpenRun
from phasetrack.errors import ExpectedError, encodable, printable
from phasetrack.storage.atomic_files import write_output

# Pixel columns per curve: more than a screen has, so that zooming in shows more.
COLUMNS = 2000
# Saved steps of the neurons, evenly chosen: a few megabytes.
NEURON_STEPS = 25
# Each module after the modules that it imports.
SCRIPTS = (
    *("dom.js", "theme.js", "scales.js", "sources.js", "address.js", "loader.js", "lanes.js"),
    "figure.js",
    *("runs.js", "thresholds.js", "neurons.js", "table.js", "keys.js", "app.js"),
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
</head>
<body>
{head}
<div id="phases">loading the charts, which need JavaScript and a browser of 2023 or later …</div>
<script type="application/json" id="data">{data}</script>
<script type="application/gzip" id="plotly">{plotly}</script>
<script type="module">
{script}
const data = JSON.parse(document.getElementById("data").textContent);
const dark = () => window.matchMedia("(prefers-color-scheme: dark)").matches;
const packed = document.getElementById("plotly");
const ready = unpacked(packed.textContent).then((text) => {{
  packed.remove();
  document.head.append(Object.assign(document.createElement("script"), {{ textContent: text }}));
}});
start(document.getElementById("phases"), new EmbeddedSource(data), {{ address: new Address(window), dark, ready }});
</script>
</body>
</html>
"""


def write_report(runs: Sequence[str | Path], file: str | Path) -> list[str]:
    """Write runs into one HTML file: words, boundaries, settings and glossary, then charts and neurons.

    Args:
        runs: run directories; the first one is in front. Several runs are overlaid.
        file: the HTML file; an existing file is replaced, and so is a link, not its target.

    Returns:
        What is damaged, one line each: the page shows a history up to the damage, leaves out saved
        neurons that cannot be read, and labels a run again whose summary or configuration is damaged.

    Raises:
        ExpectedError: if a run has no readable record, or the file cannot be written.
    """
    content, problems = _page([Path(run) for run in runs])
    write_output(Path(file), content.encode())
    return problems


def report(runs: Sequence[Path]) -> str:
    """Return the page of `write_report` as text."""
    return _page(runs)[0]


def _page(runs: Sequence[Path]) -> tuple[str, list[str]]:
    static = resources.files("phasetrack.display.tensorboard") / "static"
    data, told, problems = _data(runs)
    names = ", ".join(entry["id"] for entry in data["runs"])
    page = PAGE.format(
        title=html.escape(f"{names} · phasetrack")[:300],
        style=(static / "style.css").read_text(encoding="utf-8") + STYLE,
        head=head(told),
        plotly=_packed_plotly(),
        # a JSON text in which every "<" is escaped cannot contain a tag
        data=json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
        script="\n".join(_scoped((static / n).read_text(encoding="utf-8")) for n in SCRIPTS),
    )
    return page, problems


@cache
def _packed_plotly() -> str:
    """Return plotly's script as text: compressed, because its Python package brings the full one alone."""
    script = resources.files("plotly") / "package_data" / "plotly.min.js"
    return base64.b64encode(gzip.compress(script.read_bytes(), mtime=0)).decode()


def _scoped(module: str) -> str:
    """Turn a module into a function's scope, of which the page's script sees the exports alone.

    Two modules may therefore have private helpers of one name.
    """
    exported = ", ".join(exports(module))
    body = re.sub(r"^import .*?;\n", "", module, flags=re.MULTILINE)
    body = re.sub(r"^export ", "", body, flags=re.MULTILINE)
    return f"const {{ {exported} }} = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();"


def exports(module: str) -> list[str]:
    """Return the names that a JavaScript module exports."""
    declared = r"^export (?:async )?(?:function|class|const|let) (\w+)"
    return re.findall(declared, module, flags=re.MULTILINE)


def _data(runs: Sequence[Path]) -> tuple[dict[str, Any], list[Told], list[str]]:
    problems: list[str] = []
    told: list[Told] = []
    data: dict[str, Any] = {"runs": [], "colours": RUN_COLOURS}
    data |= {"about": {}, "series": {}, "labels": {}, "neurons": {}}
    for name, folder in _named(runs).items():
        run = OpenRun(name, folder)
        series, entry = run.series(columns=COLUMNS), run.entry()
        if not series["count"]:
            problem = f"The run {printable(folder)} has no record that can be read"
            reason = f"{problem} ({printable(run.problem)})." if run.problem else f"{problem}."
            raise ExpectedError("runs", reason, "Leave it out, or wait for its first record.")
        about, labels = run.about(), run.labels()
        if entry["state"] == "unreadable":  # it has records: the tab reads no further than its list
            entry["state"] = "damaged"
        if entry["problem"]:
            problems.append(f"{name}: {entry['problem']}")
        about["neurons"] = _spread(about["neurons"], NEURON_STEPS)
        told.append(Told(name, *run.told(), entry["started"], entry["problem"]))
        # without times of this machine the same runs make the same file
        entry |= {"phase": labels["phase"], "revision": "", "started": 0.0}
        entry["steps"] = series["last"] + 1 if entry["steps"] is None else entry["steps"]
        series["generation"] = labels["generation"] = 0
        data["runs"].append(entry)
        data["about"][name], data["series"][name], data["labels"][name] = about, series, labels
        data["neurons"][name] = neurons = {}
        for step in list(about["neurons"]):
            try:
                neurons[str(step)] = run.neurons(step)
            except ExpectedError as error:  # of one step: a power cut may have damaged it
                about["neurons"].remove(step)
                problems.append(f"{name}: {error.problem}")
    return data, told, problems


def _named(runs: Sequence[Path]) -> dict[str, Path]:
    """Name each run after its directory, with parent directories where the names would be equal."""
    if not runs:
        raise ExpectedError("runs", "No run directory was given.", "Pass one or more.")
    names: dict[str, Path] = {}
    for run in runs:
        if not run.is_dir():
            problem = f"{printable(run)!r} is not a directory."
            raise ExpectedError("runs", problem, "`phasetrack list` shows the runs.")
        folder, depth = run.resolve(), 1
        shown = [encodable(part) for part in folder.parts]
        while (name := "/".join(shown[-depth:])) in names and depth < len(shown):
            depth += 1
        names[name] = folder
    return names


def _spread(steps: list[int], count: int) -> list[int]:
    """Choose at most `count` of the steps, evenly, with the first and the last."""
    if len(steps) <= count:
        return steps
    last = len(steps) - 1
    return sorted({steps[round(i * last / (count - 1))] for i in range(count)})


def default_file(names: Sequence[str]) -> str:
    """Return the name of a report in the current folder.

    >>> default_file(["xor-d64"]), default_file(["a", "b", "c"])
    ('report-xor-d64.html', 'report-a-and-2-more.html')
    """
    first = re.sub(r"[^A-Za-z0-9._-]+", "-", names[0])[:80]
    more = f"-and-{len(names) - 1}-more" if len(names) > 1 else ""
    return f"report-{first}{more}.html"
