"""benchmarks/RESULTS.md is written from the JSON beside it."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def results():
    spec = spec_from_file_location("results", BENCHMARKS / "results.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_that_of_the_files(results):
    assert results.PAGE.read_text("utf-8") == results.page()


def test_every_row_shows_its_case_and_its_figures(results):
    for path in results.FOLDER.glob("*.json"):
        content = json.loads(path.read_text("utf-8"))
        lines = list(results.section(content))
        rows = [row for part in content["benchmarks"].values() for row in part["rows"]]
        assert sum(line.startswith("| ") for line in lines) == len(rows) + 2
        assert all(results.case_of(row) or results.figures_of(row) for row in rows)


def test_a_machine_s_figures_are_gathered(results, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    built = tmp_path / "built"
    built.mkdir()
    machine = {"processor": "P", "gpu": None, "cores": 2, "torch": "2", "python": "3"}
    for name, day, threads in (("attach", "2026-01-02", 1), ("sinks", "2026-01-03", 2)):
        content = {
            "machine": {**machine, "date": day, "threads": threads},
            "settings": {"rounds": 2},
            "rows": [{"d": 64, "case": "bare", "ms": 0.5, "goal": 1}],
        }
        (built / f"{name}.json").write_text(json.dumps(content))
    path = results.taken("here", built)
    page = results.page(tmp_path)
    assert path.name == "here.json" and "2026-01-02 to 2026-01-03" in page
    assert "| [attach](attach.py) | d 64, bare | ms 0.5, goal 1 |" in page
    (built / "attach.json").write_text((built / "attach.json").read_text().replace('"P"', '"Q"'))
    with pytest.raises(SystemExit, match="several processors"):
        results.taken("here", built)
