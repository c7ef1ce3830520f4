"""Grids as they are typed, and names that tell runs apart."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasetrack import ExpectedError, RunSettings
from phasetrack.studies.sweeps.grid import AXES, Grid, digest, parse_axes

BASE = RunSettings(width=16)


def test_every_option_of_a_run_can_vary():
    typed = ["d=8,16", "theta=1e-3,.1", "train=both,first", "shuffle-labels=true,False"]
    assert parse_axes(typed) == {
        "d": (8, 16),
        "theta": (1e-3, 0.1),
        "train": ("both", "first"),
        "shuffle_labels": (True, False),
    }
    assert {"batch", "micro_batch", "steps"} <= set(AXES) and "seed" not in AXES


@pytest.mark.parametrize(
    "typed, complaint",
    [
        (["d"], r"grid: expected NAME=VALUE,VALUE,..., NAME one of d, width.*, got 'd'"),
        (["depth=3"], "NAME one of d, width.*, got 'depth=3'"),
        (["d=8,x"], "grid: expected integers for d, got 'd=8,x'"),
        (["d=8,,16"], "grid: expected integers for d"),
        (["theta=big"], "grid: expected numbers for theta"),
        (["shuffle_labels=1"], "grid: expected true and false for shuffle_labels"),
        (["d=8", "d=16"], "grid: expected each setting once, got d twice"),
        (["d=8,8"], "grid: expected different values"),
        (["seed=1,2"], "grid: expected no seed, got 'seed=1,2'; say how many with --seeds"),
    ],
    ids=" ".join,
)
def test_slips_are_explained(typed, complaint):
    with pytest.raises(ExpectedError, match=complaint):
        parse_axes(typed)


def test_a_grid_checks_all_its_points_first():
    with pytest.raises(ExpectedError, match="theta: -1 is not a finite number > 0"):
        Grid(BASE, {"d": (8, 16), "theta": (0.1, -1.0)})
    with pytest.raises(ExpectedError, match="seeds: 0 is not an integer >= 1"):
        Grid(BASE, {}, seeds=0)
    with pytest.raises(ExpectedError, match="grid: expected at most 100000 points"):
        Grid(BASE, {"d": tuple(range(2, 1000)), "width": tuple(range(1, 1000))})


def test_points_are_all_combinations_with_all_seeds():
    grid = Grid(replace(BASE, seed=5), {"d": (8, 16), "theta": (0.1, 0.3)}, seeds=3)
    points = [(p.d, p.theta, p.seed, p.width) for p in grid.points()]
    assert points == [(d, t, s, 16) for d in (8, 16) for t in (0.1, 0.3) for s in (5, 6, 7)]
    assert len({grid.name(point) for point in grid.points()}) == len(points)


def test_a_name_is_readable_and_the_same_in_every_grid():
    point = RunSettings(d=8, width=16)
    one, other = Grid(BASE, {"d": (8,)}), Grid(replace(BASE, d=8), {"width": (16,)})
    assert re.fullmatch(r"d=8,seed=0-[0-9a-f]{8}", one.name(point))
    assert one.name(point)[-8:] == other.name(point)[-8:] == digest(point)
    # what is set to its default, or derived so, is not told apart
    assert digest(RunSettings(d=8, width=16, batch=32, theta=0.1)) == digest(point)
    long = Grid(BASE, {name: (getattr(BASE, name),) for name in AXES})
    assert len(long.name(BASE)) < 255  # what file systems take


@given(
    st.builds(
        RunSettings,
        d=st.integers(2, 2**20),
        batch=st.none() | st.integers(1, 10**6),
        theta=st.floats(1e-12, 10),
        seed=st.integers(0, 2**63 - 1),
        train=st.sampled_from(["both", "first", "second"]),
        steps=st.none() | st.integers(1, 10**6),
    )
)
def test_different_runs_have_different_digests(point):
    assert digest(point) == digest(replace(point))
    for other in (replace(point, seed=point.seed ^ 1), replace(point, eta=0.3)):
        assert digest(other) != digest(point)
