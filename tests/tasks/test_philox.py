"""Signs by counter, against numpy's raw Philox words taken bit by bit."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack.tasks.philox import signs

AT = {"seed": 5, "stream": 0, "step": 3}
CHANGES = [{"seed": 6}, {"stream": 1}, {"step": 4}]


def naive_sign(row, column, columns, seed, stream, step):
    """Sign at (row, column): -1 for a bit that is set, the words of a row next to each other."""
    words = -(-columns // 64)
    index = row * words + column // 64  # counted in words from the step's first
    counter = np.array([0, stream, step, 0], dtype=np.uint64)
    key = np.array([seed, 0], dtype=np.uint64)
    word = int(np.random.Philox(counter=counter, key=key).random_raw(index + 1)[index])
    return -1.0 if word >> (column % 64) & 1 else 1.0


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(0, 40),
    st.integers(1, 4),
    st.sampled_from([1, 2, 63, 64, 65, 128, 130, 257]),
    st.integers(0, 2**63 - 1),
    st.integers(0, 1),
    st.integers(0, 2**40),
)
def test_any_rows_against_a_naive_reading(start, rows, columns, seed, stream, step):
    made = signs(rows, columns, seed=seed, stream=stream, step=step, start=start)
    assert made.shape == (rows, columns)
    for row, column in itertools.product(range(rows), {0, columns // 2, columns - 1}):
        expected = naive_sign(start + row, column, columns, seed, stream, step)
        assert made[row, column].item() == expected


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 200), st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_the_split_does_not_matter(columns, pieces):
    starts = itertools.accumulate([0, *pieces[:-1]])
    parts = [signs(n, columns, **AT, start=at) for at, n in zip(starts, pieces, strict=True)]
    assert torch.equal(torch.cat(parts), signs(sum(pieces), columns, **AT))


def test_far_rows_need_no_near_ones():
    start = 10**12
    assert torch.equal(signs(5, 70, **AT, start=start)[3:], signs(2, 70, **AT, start=start + 3))


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_seeds_streams_and_steps_are_independent(change):
    one, other = signs(1000, 64, **AT), signs(1000, 64, **(AT | change))
    assert abs((one * other).mean()) < 5 / np.sqrt(64000)


def test_neighbouring_streams_and_steps_share_no_words():
    """Thousands of rows later a step has not run into another's counters."""
    rows = [
        tuple(row)
        for stream, step in itertools.product((0, 1), range(4))
        for row in signs(1000, 64, seed=0, stream=stream, step=step).tolist()
    ]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("columns", [1, 64, 100])
def test_signs_are_fair_in_each_column_and_uncorrelated(columns):
    made = signs(20000, columns, **AT, dtype=torch.float64)
    assert set(made.unique().tolist()) == {-1.0, 1.0}
    assert made.mean(dim=0).abs().max() < 5 / np.sqrt(20000)
    correlation = (made.T @ made / 20000 - torch.eye(columns)).abs().max()
    assert correlation < 6 / np.sqrt(20000)
    rows = (made[1:] * made[:-1]).mean()  # a row tells nothing of the next
    assert abs(rows) < 5 / np.sqrt(20000 * columns)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_dtype_is_as_asked(dtype):
    made = signs(6, 70, **AT, dtype=dtype)
    assert made.dtype == dtype and torch.equal(made.double(), signs(6, 70, **AT).double())


def test_global_random_states_change_nothing_and_stay():
    first = signs(4, 70, **AT)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
        assert torch.equal(signs(4, 70, **AT), first)
        assert torch.equal(before[0], torch.random.get_rng_state())
        assert (before[1] == np.random.get_state()[1]).all()


def test_writing_into_signs_changes_no_later_ones():
    first = signs(4, 70, **AT)
    kept = first.clone()
    first.zero_()
    assert torch.equal(signs(4, 70, **AT), kept)
