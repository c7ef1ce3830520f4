"""Figures come out the same whatever matplotlib's user has set, and change nothing of that."""

import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

from phasetrack import History
from phasetrack.display import drawing
from phasetrack.display.plots import comparison_figure, run_figure, save_figure
from phasetrack.studies.claims.figures import svg
from phasetrack.studies.claims.findings import ClaimChart, Series
from phasetrack.studies.sweeps.figures import curves, phase_diagrams

PACKAGE = Path(drawing.__file__).parents[1]
OWN = {
    "text.usetex": True,  # where latex is missing, any text raises
    "font.family": "no such font",
    "savefig.bbox": "tight",
    "figure.dpi": 31,
    "axes.facecolor": "black",
    "lines.linewidth": 40,
    "svg.fonttype": "path",
}
HISTORY = History((step, {"loss/train": 1 / (1 + step), "phase/id": 1.0}) for step in range(9))
ROW = {"state": "finished", "fitted": 3.0, "onset": 1.0, "learned_samples": 9.0}
ROW |= {"onset_forecast": 1.0, "fitted_forecast": 2.0}
AXES = {"theta": (0.1, 0.2), "d": (8, 16)}
ROWS = [{**ROW, "theta": theta, "d": d} for theta in AXES["theta"] for d in AXES["d"]]
SERIES = Series("measured", [1.0, 2.0, 3.0], [1.0, 4.0, 9.0])
FIGURES = {
    "run": lambda: run_figure(HISTORY, {"phase": "FITTED"}, title="one"),
    "compared": lambda: comparison_figure({"one": (HISTORY, {}), "two": (HISTORY, {})}),
    "curves": lambda: curves(ROWS, AXES, title="sweep"),
    "diagrams": lambda: phase_diagrams(ROWS, AXES),
}


@pytest.fixture
def own_settings():
    with matplotlib.rc_context(OWN):
        yield
        assert {name: matplotlib.rcParams[name] for name in OWN} == {
            name: [value] if name == "font.family" else value for name, value in OWN.items()
        }


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_figure_is_the_same_under_any_settings(figure, suffix, tmp_path, request):
    contents = []
    for turn in ("default", "own"):
        if turn == "own":
            request.getfixturevalue("own_settings")
        path = tmp_path / f"{turn}{suffix}"
        save_figure(FIGURES[figure](), path)
        content = re.sub(rb"<dc:date>.*?</dc:date>", b"", path.read_bytes())
        # ids of clip paths and images are random
        contents.append(re.sub(rb"\b(p|m|image)[0-9a-f]{10}\b", b"", content))
    assert len(contents[0]) > 5000 and contents[0] == contents[1]


@pytest.mark.usefixtures("own_settings")
def test_a_claim_is_drawn_under_any_settings():
    assert "measured" in svg([ClaimChart("t", "x", "y", [SERIES, SERIES])])


DRAW = """
import os, sys
from phasetrack.display.plots import run_figure, save_figure
from phasetrack import History
save_figure(run_figure(History([(0, {"x": 1.0})]), {}), __import__("pathlib").Path(sys.argv[1]))
print(os.environ.get("MPLBACKEND"))
import matplotlib.pyplot
print(matplotlib.get_backend())
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["svg", "Qt4Agg", "module://gone.backend", "", None])
def test_a_backend_that_is_asked_for_is_left_to_pyplot(backend, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    environment |= {} if backend is None else {"MPLBACKEND": backend}
    command = [sys.executable, "-c", DRAW, str(tmp_path / "one.png")]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert (tmp_path / "one.png").stat().st_size > 1000, done.stderr
    assert said[0] == str(backend)
    if backend == "svg":
        assert said[1] == "svg"


def test_only_drawing_imports_matplotlib():
    using = [
        path.name
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^\s*(import|from) matplotlib", path.read_text(), re.MULTILINE)
    ]
    assert using == ["drawing.py"]
