"""The code in README and the guides runs, block after block, as a reader would type it."""

import contextlib
import gc
import itertools
import os
import re
from pathlib import Path

import matplotlib
import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
matplotlib.use("Agg")


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


# The README and the tutorial run below, where their output is compared.
RUN_HERE = [
    page for page in PAGES if blocks(page) and page.name not in ("README.md", "tutorial.md")
]


@pytest.mark.parametrize("page", RUN_HERE, ids=lambda p: p.name)
def test_code_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks(page):
        exec(compile(block, page.name, "exec"), namespace)


class Killed(BaseException):
    """The end of a process, in its place."""


@pytest.mark.parametrize("at", [1, 3])
def test_the_loop_that_resumes_survives_a_kill_in_its_save(at, tmp_path, monkeypatch):
    saved, calls = torch.save, itertools.count(1)

    def torn(state, file):
        saved(state, file)
        if next(calls) == at:
            os.truncate(file, Path(file).stat().st_size // 2)
            raise Killed

    def run(folder):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        with contextlib.suppress(Killed):
            run_in_turn(blocks(ROOT / "docs" / "promises.md"), "promises.md")
        gc.collect()  # with its process a tracker is gone
        return (tmp_path / folder / "runs/resumed/history.jsonl").read_bytes()

    whole = run("whole")
    monkeypatch.setattr(torch, "save", torn)
    assert run("killed") != whole
    assert run("killed") == whole


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_files_that_the_readme_names_exist():
    for path in re.findall(r"tests/[\w/]+(?:\.py)?", (ROOT / "README.md").read_text()):
        assert (ROOT / path).exists(), path


# A text that a page shows as printed, or that was printed: the tracker's.
TOLD = re.compile(r"Tracker of .*(?:\n +(?!\d)\S.*)+")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
SMALL_START = "    for parameter in model.parameters():\n        parameter.mul_(0.05)\n"


def told(text):
    """Return each tracker's text in another one: its words, and its numbers."""
    texts = TOLD.findall(text)
    return [(NUMBER.sub("#", " ".join(t.split())), [*map(float, NUMBER.findall(t))]) for t in texts]


def run_in_turn(code, name):
    namespace = {"__name__": "__main__"}
    for block in code:
        exec(compile(block, name, "exec"), namespace)


def assert_told_alike(printed, shown):
    """Numbers of another machine may differ in their last digits."""
    assert [words for words, _ in printed] == [words for words, _ in shown]
    for (_, numbers), (_, expected) in zip(printed, shown, strict=True):
        assert numbers == pytest.approx(expected, abs=1.5)


def test_readme_shows_the_output_of_its_example_and_of_its_contrast(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (example,) = [block for block in blocks(ROOT / "README.md") if SMALL_START in block]
    contrast = example.replace(SMALL_START, "    pass\n").replace("runs/mine", "runs/default")
    run_in_turn([example], "README.md")
    run_in_turn([contrast], "README.md")
    shown = told((ROOT / "README.md").read_text())
    assert len(shown) == 2
    assert_told_alike(told(capsys.readouterr().out), shown)


def test_tutorial_shows_its_output(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "tutorial.md"
    run_in_turn(blocks(page), page.name)
    printed, shown = capsys.readouterr().out, told(page.read_text())
    assert len(shown) == 3
    assert_told_alike(told(printed), shown)
    rows = re.findall(r"^\|.*default \|(.*)\|$", page.read_text(), re.MULTILINE)
    table = [[*map(float, NUMBER.findall(row))] for row in rows]
    read = [[*map(float, NUMBER.findall(line))][1:] for line in re.findall(r".*: zeta.*", printed)]
    assert [pytest.approx(row, rel=0.05, abs=0.02) for row in table] == read
