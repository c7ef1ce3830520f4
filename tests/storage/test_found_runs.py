"""Runs are found by path, name, beginning of a name, or age; names that are taken get a number."""

import os
from pathlib import Path

import pytest

from phasetrack import ExpectedError
from phasetrack.storage.directory import create_numbered_directory, read_run
from phasetrack.storage.found_runs import find_run, newest_runs
from phasetrack.storage.results import find_runs

OLD = Path(__file__).parents[1] / "fixtures" / "version_0_1_0"


@pytest.fixture
def runs(tmp_path):
    for age, name in enumerate(("healthy-a", "healthy-b", "lazy")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        os.utime(tmp_path / name / "config.json", (age, age))
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize("given", [None, "lazy", "la", "l"])
def test_run_is_found(runs, given):
    assert find_run(given, runs) == runs / "lazy"


def test_path_goes_before_a_name(runs, monkeypatch):
    (runs / "lazy" / "lazy").mkdir()
    (runs / "lazy" / "lazy" / "config.json").write_text("{}")
    monkeypatch.chdir(runs / "lazy")
    assert find_run("lazy", runs) == Path("lazy")
    assert find_run(runs / "healthy-a", Path("nowhere")) == runs / "healthy-a"
    assert find_run(runs / "laz", Path("nowhere")) == runs / "lazy"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("healthy", r"begins the names of 2 runs\. Name one of them: healthy-a, healthy-b\."),
        ("lzay", r"is not a run directory: it has no config\.json\. Did you mean '.*lazy'"),
        ("empty", r"'empty' is not a run directory"),
        ("other", "`phasetrack list` shows the runs"),
    ],
)
def test_wrong_name_leads_on(runs, given, said):
    with pytest.raises(ExpectedError, match=said):
        find_run(given, runs)


def test_folder_of_runs_is_not_a_run(runs):
    with pytest.raises(ExpectedError, match=r"It is a folder of runs: name one, such as '.*lazy'"):
        find_run(runs, runs)


def test_newest_runs_are_the_last(runs):
    assert [run.name for run in newest_runs(runs, 2)] == ["healthy-b", "lazy"]
    with pytest.raises(ExpectedError, match=r"run: No run is named, and .* holds none\."):
        newest_runs(runs / "empty", 1)


def test_run_without_a_configuration_is_a_run():
    assert OLD / "own" in find_runs(OLD)
    run = read_run(OLD / "own")
    assert run.config == {} and run.history.count and run.state == "stopped"


def test_taken_names_are_numbered(tmp_path):
    made = [create_numbered_directory(tmp_path / "out", "xor").name for _ in range(3)]
    assert made == ["xor", "xor-2", "xor-3"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ExpectedError, match="cannot be written"):
        create_numbered_directory(tmp_path / "file", "xor")
