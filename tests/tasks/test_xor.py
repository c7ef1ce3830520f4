"""Boolean samples: by counter, the same whatever the pieces, fair and independent."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasetrack import ExpectedError
from phasetrack.tasks import XOR
from phasetrack.tasks.philox import signs


def naive_signs(rows, columns, seed, stream, step):
    """Bit i of word w of each row, from numpy's Philox, one at a time."""
    words = -(-columns // 64)
    counter = np.array([0, stream, step, 0], dtype=np.uint64)
    key = np.array([seed, 0], dtype=np.uint64)
    raw = np.random.Philox(counter=counter, key=key).random_raw(rows * words).reshape(rows, words)
    return [
        [
            1.0 - 2.0 * (int(raw[row, column // 64]) >> (column % 64) & 1)
            for column in range(columns)
        ]
        for row in range(rows)
    ]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 200), st.integers(0, 2**63 - 1), st.integers(0, 2**40))
def test_bits_against_a_naive_reading(rows, columns, seed, step):
    made = signs(rows, columns, seed=seed, stream=1, step=step)
    assert made.tolist() == naive_signs(rows, columns, seed, 1, step)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(2, 150),
    st.lists(st.integers(1, 20), min_size=1, max_size=6),
    st.booleans(),
    st.integers(0, 2**20),
)
def test_the_pieces_of_a_batch_do_not_matter(d, pieces, shuffled, seed):
    task, start, parts = XOR(d, shuffle_labels=shuffled), 0, []
    whole = task.sample(sum(pieces), seed=seed, step=3)
    for count in pieces:
        parts.append(task.sample(count, seed=seed, step=3, start=start))
        start += count
    for index in (0, 1):
        assert torch.equal(torch.cat([part[index] for part in parts]), whole[index])


def test_samples_are_fair_and_uncorrelated():
    x, y = XOR(40).sample(20000, seed=0, step=0, dtype=torch.float64)
    error = 5 / np.sqrt(20000)
    assert x.mean(dim=0).abs().max() < error and abs(y.mean()) < error
    correlation = x.T @ x / len(x) - torch.eye(40)
    assert correlation.abs().max() < 1.2 * error
    assert torch.equal(y, -x[:, 0] * x[:, 1])


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}], ids=str)
def test_seeds_and_steps_are_independent(change):
    at = {"seed": 0, "step": 0}
    one, _ = XOR(64).sample(1000, **at)
    other, _ = XOR(64).sample(1000, **(at | change))
    assert abs((one * other).mean()) < 5 / np.sqrt(64000)


def test_shuffled_labels_know_nothing_of_the_inputs():
    x, y = XOR(4, shuffle_labels=True).sample(20000, seed=0, step=0)
    assert abs(y.mean()) < 5 / np.sqrt(20000)
    for product in (x[:, 0] * x[:, 1] * y, x[:, 0] * y, x[:, 3] * y):
        assert abs(product.mean()) < 5 / np.sqrt(20000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dtype_changes_no_sample(dtype):
    x, y = XOR(30).sample(8, seed=2, step=1, dtype=dtype)
    assert x.dtype == y.dtype == dtype
    assert torch.equal(x.float(), XOR(30).sample(8, seed=2, step=1)[0])


def test_global_random_states_are_left_alone():
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    XOR(30).sample(8, seed=2, step=1)
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()


def test_one_dimension_has_no_xor():
    with pytest.raises(ExpectedError, match="d: 1 is not an integer >= 2"):
        XOR(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_shuffling_changes_labels_and_no_inputs(dtype):
    at = {"seed": 3, "step": 7, "dtype": dtype}
    plain, shuffled = XOR(20).sample(500, **at), XOR(20, shuffle_labels=True).sample(500, **at)
    assert torch.equal(plain[0], shuffled[0])
    assert shuffled[1].dtype == dtype and set(shuffled[1].tolist()) == {-1.0, 1.0}
    assert 150 < (plain[1] != shuffled[1]).sum() < 350


def test_samples_do_not_depend_on_global_seeds():
    one = XOR(30).sample(8, seed=2, step=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        assert all(map(torch.equal, one, XOR(30).sample(8, seed=2, step=1)))


def test_every_cluster_holds_a_quarter_and_its_label():
    x, y = XOR(5).sample(20000, seed=1, step=0)
    clusters = XOR(5).geometry.assign(x)
    assert torch.equal(XOR(5).geometry.labels[clusters], y.double())
    shares = clusters.bincount() / 20000
    assert (shares - 0.25).abs().max() < 5 * np.sqrt(3 / 16 / 20000)
