"""The prose check of `make lint` finds the phrases that it looks for."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "prose.py"


@pytest.fixture(scope="module")
def prose():
    spec = importlib.util.spec_from_file_location("prose", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "line",
    [
        "it is no run",
        "they are no signs",
        "as is said",
        "goes on with it",
        "to mend",
        "(chosen here)",
    ],
)
def test_phrase_is_found(prose, line):
    assert prose.offenders(f"fine\n{line}\n") == [(2, line)]


@pytest.mark.parametrize(
    "line", ["there is no run", "it is no longer than", "recommended", "not a run"]
)
def test_plain_phrase_passes(prose, line):
    assert prose.offenders(line) == []
