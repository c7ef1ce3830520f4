"""Parsing of axes, the points of a grid, and the names of their run directories."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasetrack import ExpectedError, RunSettings
from phasetrack.studies.sweeps.grid import AXES, Grid, digest, parse_axes

BASE = RunSettings(width=16)


def test_every_setting_can_be_an_axis():
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
        (["d"], r"axes: 'd' is not an axis. Write NAME=VALUE,VALUE,... with one of the names d, w"),
        (["depth=3"], "axes: 'depth=3' is not an axis. .* names d, width"),
        (["d=8,x"], "axes: 'x' in 'd=8,x' is not an integer. Correct the values of d."),
        (["d=8,,16"], "axes: '' in 'd=8,,16' is not an integer."),
        (["theta=big"], "axes: 'big' in 'theta=big' is not a number."),
        (["shuffle_labels=1"], "axes: '1' in 'shuffle_labels=1' is not true or false."),
        (["d=8", "d=16"], "axes: 'd' is given twice. Write all values of d in one axis."),
        (["d=8,8"], "axes: 'd=8,8' repeats a value. Write each value once."),
        (
            ["seed=1,2"],
            "axes: 'seed=1,2' varies the seed. Pass the number of runs per combination as seeds.",
        ),
    ],
    ids=" ".join,
)
def test_wrong_axes_are_reported(typed, complaint):
    with pytest.raises(ExpectedError, match=complaint):
        parse_axes(typed)


def test_grid_validates_every_point():
    with pytest.raises(ExpectedError, match="theta: -1 is not a finite number > 0"):
        Grid(BASE, {"d": (8, 16), "theta": (0.1, -1.0)})
    with pytest.raises(ExpectedError, match="seeds: 0 is not an integer >= 1"):
        Grid(BASE, {}, seeds=0)
    with pytest.raises(ExpectedError, match=r"axes: The grid has 997002 points, more than 100000."):
        Grid(BASE, {"d": tuple(range(2, 1000)), "width": tuple(range(1, 1000))})


def test_points_are_all_combinations_with_all_seeds():
    grid = Grid(replace(BASE, seed=5), {"d": (8, 16), "theta": (0.1, 0.3)}, seeds=3)
    points = [(p.d, p.theta, p.seed, p.width) for p in grid.points()]
    assert points == [(d, t, s, 16) for d in (8, 16) for t in (0.1, 0.3) for s in (5, 6, 7)]
    assert len({grid.name(point) for point in grid.points()}) == len(points)


def test_name_shows_the_axes_and_its_digest_is_the_same_in_every_grid():
    point = RunSettings(d=8, width=16)
    one, other = Grid(BASE, {"d": (8,)}), Grid(replace(BASE, d=8), {"width": (16,)})
    assert re.fullmatch(r"d=8,seed=0-[0-9a-f]{8}", one.name(point))
    assert one.name(point)[-8:] == other.name(point)[-8:] == digest(point)
    # explicit defaults give the same digest
    assert digest(RunSettings(d=8, width=16, batch=32, theta=0.1)) == digest(point)
    long = Grid(BASE, {name: (getattr(BASE, name),) for name in AXES})
    assert len(long.name(BASE)) < 255  # the limit of file systems


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
