"""Sweeps in real processes: every point is trained once, whatever happens to other points."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from helpers.sweep_workers import die_always, die_once, die_once_elsewhere, note

from phasetrack import ExpectedError, RunSettings, read_run, train
from phasetrack.storage.lock import RunLock
from phasetrack.studies import confidence
from phasetrack.studies.sweeps.figures import curves, phase_diagrams
from phasetrack.studies.sweeps.grid import Grid
from phasetrack.studies.sweeps.job import Job
from phasetrack.studies.sweeps.point import Point, is_finished
from phasetrack.studies.sweeps.process_backend import run_locally
from phasetrack.studies.sweeps.ray_backend import run_on_ray
from phasetrack.studies.sweeps.summary import COLUMNS, by_combination
from phasetrack.studies.sweeps.sweep import Sweep
from phasetrack.studies.sweeps.table import tabulate
from phasetrack.training.run import forecast_of

BASE = RunSettings(d=8, width=16, batch=64, target=0.6)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Three runs: two that fit and one that diverges."""
    folder = tmp_path_factory.mktemp("sweep")
    sweep = Sweep(Grid(BASE, {"eta": (0.4, 300.0)}, seeds=2), folder)
    return sweep, list(sweep.run(workers=2))


def test_swept_runs_equal_single_runs(swept, tmp_path):
    sweep, outcomes = swept
    assert [outcome.reason for outcome in outcomes] == [""] * 4
    assert sorted(o.point.name for o in outcomes) == sorted(p.name for p in sweep.points)
    alone = train(replace(BASE, eta=0.4, seed=1), out=tmp_path, name="alone", threads=1)
    (point,) = [p for p in sweep.points if p.settings.eta == 0.4 and p.settings.seed == 1]
    run = read_run(sweep.folder / point.name)
    assert run.summary["boundaries"] == alone["boundaries"]
    assert list(run.path.glob("events.out.tfevents.*"))


def test_seeds_of_a_combination_share_the_forecast_of_the_first_seed(swept):
    sweep, _ = swept
    first, second = (point for point in sweep.points if point.settings.eta == 0.4)
    bands = [str(read_run(sweep.folder / p.name).config["forecast"]) for p in (first, second)]
    own = [str(forecast_of(point.settings).bands()) for point in (first, second)]
    assert bands == [own[0]] * 2 and own[1] != own[0]
    cells = next(cells for chosen, cells in by_combination(sweep) if chosen == {"eta": 0.4})
    assert float(cells[COLUMNS.index("forecast")]) > 0 and "±" in cells[COLUMNS.index("onset")]


def test_table_has_a_row_per_run(swept):
    sweep, _ = swept
    with (sweep.folder / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [point.name for point in sweep.points]
    assert [row["stopped"] for row in rows] == ["fitted", "fitted", "diverged", "diverged"]
    run = read_run(sweep.folder / rows[0]["name"])
    assert float(rows[0]["onset"]) == run.summary["boundaries"][0]["onset"]
    assert int(rows[0]["samples"]) == 64 * run.summary["steps"]
    step = int(float(rows[0]["learned"]))
    errors = run.history["error/train"]
    assert errors[step] > 0.02 >= errors[step + 1]
    assert rows[2]["fitted"] == "" and rows[2]["alerts"] == "DIVERGED"
    packed = pyarrow.parquet.read_table(sweep.folder / "points.parquet").to_pylist()
    assert packed == tabulate(sweep.folder, sweep.points, {})
    cells = {chosen["eta"]: cells for chosen, cells in by_combination(sweep)}
    assert cells[0.4][:2] == ["2/2", "2/2"] and cells[300.0][:3] == ["2/2", "0/2", "-"]
    assert len(cells[0.4]) == len(COLUMNS)


def test_finished_points_are_not_trained_again(swept):
    sweep, _ = swept
    before = {path: path.stat().st_mtime_ns for path in sweep.folder.rglob("checkpoint.pt")}
    assert len(before) == 4 and sweep.missing() == [] and list(sweep.run()) == []
    # a larger sweep in the same folder trains only its new points and those cut off in the middle
    victim = sweep.points[0]
    (sweep.folder / victim.name / "summary.json").unlink()
    larger = Sweep(Grid(BASE, {"eta": (0.4, 300.0, 0.8)}, seeds=1), sweep.folder)
    begun = []
    outcomes = list(larger.run(workers=1, begun=begun.extend))
    assert [point.settings.eta for point in begun] == [0.4, 0.8]
    assert {o.point.name for o in outcomes} == {point.name for point in begun}
    after = {path: path.stat().st_mtime_ns for path in before}
    assert [path for path in before if before[path] != after[path]] == [
        sweep.folder / victim.name / "checkpoint.pt"
    ]


def test_second_sweep_in_a_folder_is_refused(swept):
    sweep, _ = swept
    before = sorted(sweep.folder.rglob("*"))
    lock = RunLock(sweep.folder, "folder")
    with pytest.raises(ExpectedError) as refused:
        next(sweep.run())
    assert refused.value.argument == "folder"
    assert f"rocess {os.getpid()}" in str(refused.value) and str(sweep.folder) in str(refused.value)
    lock.release()
    assert list(sweep.run()) == [] and sorted(sweep.folder.rglob("*")) == before


def test_failed_point_is_listed_and_the_sweep_continues(tmp_path):
    sweep = Sweep(Grid(BASE, {"steps": (2, 3)}), tmp_path)
    blocked = tmp_path / sweep.points[0].name
    blocked.mkdir()
    (blocked / "a user's file").touch()
    outcomes = {o.point.settings.steps: o for o in sweep.run(workers=1)}
    assert outcomes[2].reason.startswith(f"ExpectedError: name: '{blocked}' already exists")
    assert outcomes[3].finished and (blocked / "a user's file").exists()
    rows = tabulate(tmp_path, sweep.points, {blocked.name: outcomes[2].reason})
    assert [row["state"] for row in rows] == ["failed", "finished"]
    written = (tmp_path / "points.csv").read_text()
    assert "failed" in written and "already exists" in written


def jobs_of(folder, count):
    points = [Point(f"p{seed}", replace(BASE, seed=seed)) for seed in range(count)]
    return [Job((point,), 1, folder) for point in points]


def attempts(folder):
    return Counter((folder / "attempts").read_text().split())


def test_a_killed_worker_is_retried(tmp_path):
    done = [o for outcomes in run_locally(jobs_of(tmp_path, 4), 1, die_once) for o in outcomes]
    assert all(outcome.finished for outcome in done) and len(done) == 4
    assert attempts(tmp_path) == {"p0": 2, "p1": 1, "p2": 1, "p3": 1}


def test_point_that_kills_every_worker_fails_alone(tmp_path):
    done = [o for outcomes in run_locally(jobs_of(tmp_path, 3), 2, die_always) for o in outcomes]
    reasons = {outcome.point.name: outcome.reason for outcome in done}
    assert reasons == {"p0": "its process was killed, 3 times", "p1": "", "p2": ""}
    assert attempts(tmp_path)["p0"] == 3


def test_workers_end_with_the_sweep(tmp_path):
    results = run_locally(jobs_of(tmp_path, 2), 1, note)
    next(results)
    results.close()
    assert attempts(tmp_path).total() <= 2


@pytest.mark.long  # a Ray cluster takes half a minute to start on a busy machine
def test_ray_gives_the_same_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    sweep = Sweep(Grid(replace(BASE, steps=3), {"theta": (0.1,)}, seeds=2), tmp_path / "ray")
    assert all(o.finished for o in sweep.run(ray="local", workers=2))
    assert all(is_finished(sweep.folder, point) for point in sweep.points)
    alone = train(sweep.points[1].settings, out=tmp_path, name="alone", threads=1)
    there = read_run(sweep.folder / sweep.points[1].name)
    np.testing.assert_equal(there.summary["final"], alone["final"])
    assert (there.path / "checkpoint.pt").exists()
    assert json.loads((sweep.folder / "sweep.json").read_text())["seeds"] == 2


@pytest.mark.long
def test_a_killed_ray_worker_is_retried(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # where `helpers` lies
    results = run_on_ray(jobs_of(tmp_path, 3), "local", 1, die_once_elsewhere)
    done = [outcome for outcomes in results for outcome in outcomes]
    assert [outcome.reason for outcome in done] == [""] * 3
    assert attempts(tmp_path)["p0"] == 2 and attempts(tmp_path).total() == 4


def test_missing_ray_cluster_is_reported(tmp_path):
    sweep = Sweep(Grid(replace(BASE, steps=3), {}), tmp_path)
    with pytest.raises(
        ExpectedError, match=r"ray: No Ray cluster answers at '127.0.0.1:1' .* Pass local, auto"
    ):
        list(sweep.run(ray="127.0.0.1:1"))


def test_curves_show_means_over_seeds(swept):
    sweep, _ = swept
    rows = tabulate(sweep.folder, sweep.points, {})
    figure = curves(rows, sweep.grid.axes)
    success = figure.axes[0]
    assert success.lines[0].get_ydata().tolist() == [1.0, 0.0]
    onsets = [row["onset"] for row in rows[:2] if row["onset"]]
    assert figure.axes[1].lines[0].get_ydata()[0] == pytest.approx(sum(onsets) / len(onsets))
    with pytest.raises(
        ExpectedError, match="axes: The figure needs 2 axes with two values or more, not 1"
    ):
        phase_diagrams(rows, sweep.grid.axes)


def test_phase_diagrams_map_two_axes(tmp_path):
    grid = Grid(BASE, {"d": (8, 16), "train": ("both", "second"), "eta": (0.1, 0.2)})
    points = [Point(grid.name(settings), settings) for settings in grid.points()]
    rows = tabulate(tmp_path, points, {})
    for row in rows:
        row["state"], row["onset"] = "finished", row["d"] * 1.0 if row["train"] == "both" else None
    figure = phase_diagrams(rows, grid.axes)
    assert len([axes for axes in figure.axes if axes.images]) == 2 * 4
    shown = figure.axes[1].images[0].get_array()
    assert shown.tolist() == [[8.0, None], [16.0, None]]


def test_summary_without_scipy_shows_means_alone(swept, monkeypatch):
    sweep, _ = swept
    monkeypatch.setattr(confidence, "find_spec", lambda _: None)
    with pytest.warns(UserWarning, match="Confidence intervals are left out"):
        cells = {chosen["eta"]: cells for chosen, cells in by_combination(sweep)}
    assert float(cells[0.4][2]) > 0 and "±" not in "".join(cells[0.4])


UNGUARDED = """
import sys
from pathlib import Path
from phasetrack import RunSettings
from phasetrack.studies.sweeps.grid import Grid
from phasetrack.studies.sweeps.sweep import Sweep
grid = Grid(RunSettings(d=8, width=8, steps=3), {"theta": (0.03, 0.1)}, seeds=1)
for outcome in Sweep(grid, Path(sys.argv[1])).run(workers=2):
    print("outcome", outcome.reason or "done")
"""


def test_a_sweep_runs_from_standard_input(tmp_path):
    done = subprocess.run(
        [sys.executable, "-", "out"],
        input=UNGUARDED,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.splitlines() == ["outcome done"] * 2, done.stderr
    assert len(list(tmp_path.glob("out/*/summary.json"))) == 2


@pytest.mark.slow
def test_a_folder_of_two_sweeps_tabulates_both(tmp_path):
    base = RunSettings(d=8, width=8, batch=8, steps=2)
    first = Sweep(Grid(base, {"theta": (0.1, 0.2)}), tmp_path)
    list(first.run(workers=1))
    (tmp_path / "curves.png").write_bytes(b"of the first")
    list(first.run(workers=1))
    assert (tmp_path / "curves.png").exists() and first.removed == []
    second = Sweep(Grid(base, {"eta": (0.1,)}), tmp_path)
    list(second.run(workers=1))
    with (tmp_path / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["theta"], row["eta"], row["state"]) for row in rows] == [
        ("0.1", "0.1", "finished"),
        ("0.1", "0.2", "finished"),
        ("0.2", "0.2", "finished"),
    ]
    assert second.removed == [tmp_path / "curves.png"] and not second.removed[0].exists()
