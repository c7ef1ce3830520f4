"""The notebooks run from a clean kernel to the end, and print what is stored in them."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
# Processors round differently, and a step more or less may pass until a boundary.
TOLERANCE = 0.1


def printed(notebook):
    """Return the texts of each code cell, and how many pictures it shows."""
    cells = []
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        texts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs]
        pictures = sum("image/png" in out.get("data", {}) for out in outputs)
        cells.append(("".join(texts), pictures))
    return cells


def read(path):
    return nbformat.read(path, as_version=4)


def execute(notebook, folder, tries=3):
    """Run a notebook in a kernel of its own."""
    resources = {"metadata": {"path": str(folder)}}
    try:
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    except RuntimeError as error:
        # jupyter_client chooses free ports, and another process may take one before the kernel does
        if tries == 1 or "before replying to kernel_info" not in str(error):
            raise
        execute(notebook, folder, tries - 1)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_prints_what_is_stored_in_it(path, tmp_path):
    stored, notebook = printed(read(path)), read(path)
    for cell in notebook.cells:
        cell.get("outputs", []).clear()
    execute(notebook, tmp_path)
    for (text, pictures), (now, drawn) in zip(stored, printed(notebook), strict=True):
        assert NUMBER.split(now) == NUMBER.split(text)
        found, expected = (list(map(float, NUMBER.findall(each))) for each in (now, text))
        assert found == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)
        assert drawn == pictures
    assert any(pictures for _, pictures in stored)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_asks_installs_and_has_exercises_with_answers(path):
    cells = read(path).cells
    assert cells[0].source.splitlines()[0].endswith("?")
    assert "%pip install" in cells[1].source and "except ModuleNotFoundError" in cells[1].source
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    (exercises,) = (text for text in texts if text.startswith("## Exercises"))
    asked = len(re.findall(r"^\d+\. ", exercises, re.MULTILINE))
    answers = [text for text in texts if text.startswith("### Answer")]
    assert asked == len(answers) >= 2
